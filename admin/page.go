package admin

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"time"
)

//go:embed page
var pageFiles embed.FS

// pagePolicy lets the live page load its own files and ask its own server, and
// nothing else.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; " +
	"frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

// An asset is one file of the live page.
type asset struct {
	name, kind, etag string
	content          []byte
}

// Page serves the live page at / and its files under /page/. They hold nothing
// of this gateway and need no key: what the page shows it asks the API for.
func Page() http.Handler {
	all := assets()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { all["index.html"].serve(w, r) })
	mux.HandleFunc("GET /page/{name}", func(w http.ResponseWriter, r *http.Request) {
		a, ok := all[r.PathValue("name")]
		if !ok || a.name == "index.html" { // its links lead on from /
			http.NotFound(w, r)
			return
		}
		a.serve(w, r)
	})
	return mux
}

// assets reads the embedded files, by name.
func assets() map[string]asset {
	kinds := map[string]string{
		".html": "text/html; charset=utf-8",
		".css":  "text/css; charset=utf-8",
		".js":   "text/javascript; charset=utf-8",
		".svg":  "image/svg+xml",
	}
	all := map[string]asset{}
	names, _ := fs.Glob(pageFiles, "page/*") // the pattern is well-formed
	for _, name := range names {
		content, err := pageFiles.ReadFile(name)
		if err != nil {
			continue // a folder
		}
		sum := sha256.Sum256(content)
		base := path.Base(name)
		all[base] = asset{base, kinds[path.Ext(name)], `"` + hex.EncodeToString(sum[:8]) + `"`, content}
	}
	return all
}

func (a asset) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", a.kind)
	h.Set("Content-Security-Policy", pagePolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-cache") // an upgraded gateway shows its own page at once
	h.Set("ETag", a.etag)
	http.ServeContent(w, r, a.name, time.Time{}, bytes.NewReader(a.content))
}
