package sandbox

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// sendMail takes a message and forgets it.
func (c *call) sendMail() {
	if find(c.people().all, c.vars[0]) < 0 {
		c.notFound(c.vars[0])
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, 4<<20)) // the real limit
	if err != nil {
		c.fail(http.StatusRequestEntityTooLarge, "ErrorMessageSizeExceeded", "The message exceeds the maximum supported size.")
		return
	}
	var doc struct {
		Message json.RawMessage `json:"message"`
	}
	if json.Unmarshal(body, &doc) != nil || doc.Message == nil {
		c.fail(http.StatusBadRequest, "ErrorInvalidRequest", "The request body has no message.")
		return
	}
	c.w.WriteHeader(http.StatusAccepted)
}

// organization shows the tenant of the token.
func (c *call) organization() {
	name := c.g.entra.domainOf(c.who.tenantID)
	c.list(listing{
		name: "organization", columns: []string{"id", "displayName", "verifiedDomains"},
		all: []entity{{
			"id": c.who.tenantID, "displayName": "Contoso",
			"verifiedDomains": []map[string]any{{"name": name, "isDefault": true, "isInitial": true, "type": "Managed"}},
		}},
	})
}

// domainOf returns the domain of a tenant, or its GUID if it has none.
func (e *Entra) domainOf(id string) string {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if t, ok := e.dir.tenants[id]; ok {
		return t.name()
	}
	return id
}

// report answers with a small CSV, once the app may see it.
func (c *call) report() {
	c.w.Header().Set("Content-Type", "text/csv; charset=utf-8")
	_, _ = io.WriteString(c.w, "Report Refresh Date,User Principal Name,Is Deleted\n2026-01-01,AdeleV@"+TenantDomain+",False\n")
}

// upload hashes a file of any size and tells what came.
func (c *call) upload() {
	sum, n, err := c.digest()
	if err != nil {
		return // the client broke off, or sent more than the bound
	}
	c.reply(http.StatusOK, map[string]any{
		"@odata.context": c.base + "/v1.0/$metadata#driveItem/$entity",
		"id":             clip(c.vars[0], 200), "size": n,
		"file": map[string]any{"hashes": map[string]string{"sha256Hash": strings.ToUpper(sum)}},
		// The two of the sandbox's own, as in the echo.
		"sha256": sum, "length": n,
	})
}

// digest reads the body to its end and returns its SHA-256 in hex and length.
func (c *call) digest() (sum string, n int64, err error) {
	h := sha256.New()
	n, err = io.Copy(h, http.MaxBytesReader(c.w, c.r.Body, maxUpload))
	if err != nil {
		c.fail(http.StatusBadRequest, "BadRequest", "The request body could not be read.")
	}
	return hex.EncodeToString(h.Sum(nil)), n, err
}

// echo tells what arrived: the bytes of path and query as they came, headers
// save for the values of credentials, hash and length of the body. It serves
// any method and any path below /v1.0/$echo.
func (c *call) echo() {
	sum, n, err := c.digest()
	if err != nil {
		return
	}
	headers := map[string][]string(c.r.Header.Clone())
	for _, name := range []string{"Authorization", "Proxy-Authorization", "Cookie", "X-Gateway-Authorization"} {
		if _, ok := headers[name]; ok {
			headers[name] = []string{"[withheld]"}
		}
	}
	path, query, _ := strings.Cut(c.r.RequestURI, "?")
	c.reply(http.StatusOK, map[string]any{
		"method": c.r.Method, "proto": c.r.Proto, "host": c.r.Host, "path": path, "query": query,
		"header_names": slices.Sorted(maps.Keys(headers)), "headers": headers,
		"transfer_encoding": c.r.TransferEncoding, "content_length": c.r.ContentLength,
		"sha256": sum, "length": n,
	})
}
