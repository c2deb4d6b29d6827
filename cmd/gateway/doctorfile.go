package main

import (
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/secrets"
)

// checkFile looks at what the gateway itself reads: whether a change of
// routes.yaml will be noticed, and the folder of the CA.
func (d *doctor) checkFile(path string, table *routes.Table) {
	abs, err := filepath.Abs(path)
	if err != nil {
		abs = path
	}
	faults := len(d.findings)
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err == nil {
		d.checkMount(abs, readMounts(string(mounts)))
	}
	if w, err := secrets.Watch(func() {}); err != nil {
		d.no(checkFile, path, "changes cannot be watched: "+cause(err), "raise fs.inotify.max_user_instances by sysctl; until then gateway reload takes changes over")
	} else {
		_ = w.Close()
		if err := watchable(filepath.Dir(abs)); err != nil {
			d.warn(checkFile, path, "its folder cannot be watched: "+err.Error(), "raise fs.inotify.max_user_watches by sysctl; until then changes are found by looking every 30 s")
		}
	}
	if len(d.findings) == faults {
		d.ok(checkFile, path, "it is valid, nobody else may write it, and changes of it are noticed")
	}
	if table.Intercept != nil {
		d.checkCA(table)
	}
}

// mount is a line of mountinfo (proc_pid_mountinfo(5)).
type mount struct{ point, kind string }

// readMounts understands mountinfo; lines that are none are passed over.
func readMounts(text string) []mount {
	var all []mount
	for line := range strings.Lines(text) {
		before, after, ok := strings.Cut(line, " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if ok && len(left) >= 5 && len(right) >= 1 {
			all = append(all, mount{unescapeMount(left[4]), right[0]})
		}
	}
	return all
}

// unescapeMount undoes the octal escapes of blanks and backslashes.
func unescapeMount(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// silentKinds are file systems whose changes elsewhere raise no event here.
func silentKinds() []string {
	return []string{"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "virtiofs", "vboxsf", "fuse", "fuse.sshfs", "fuse.gcsfuse", "ceph", "glusterfs", "fuse.glusterfs", "afs", "lustre"}
}

// checkMount looks at where path lies, once its links are followed.
func (d *doctor) checkMount(path string, mounts []mount) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		real = path
	}
	best := mount{}
	for _, m := range mounts {
		covers := m.point == "/" || real == m.point || strings.HasPrefix(real, m.point+"/")
		if covers && len(m.point) >= len(best.point) {
			best = m // of two on one point the later lies on top
		}
	}
	if best.point == real && real != "/" {
		d.warn(checkFile, path, "the file itself is a mount (a subPath of Kubernetes, or a single-file bind mount), so it stays as it was when the container started",
			"mount its folder instead, or restart after each change")
	}
	if slices.Contains(silentKinds(), best.kind) {
		d.warn(checkFile, path, "it lies on "+best.kind+", which tells nothing of changes made elsewhere; they are found by looking every 30 s", "")
	}
}

// checkCA looks at the folder of the interception CA.
func (d *doctor) checkCA(table *routes.Table) {
	dir := table.Intercept.CADir
	if _, err := os.Stat(dir); err != nil {
		d.no(checkFile, caField, dir+" "+whyUnread(err), "gateway ca init makes it; gateway serve does so by itself")
		return
	}
	faults := len(d.findings)
	d.checkOwners(dir, "0700")
	d.checkOwners(filepath.Join(dir, "issuing.key"), "0600")
	d.checkIssuing(filepath.Join(dir, "issuing.pem"), table.InterceptedHosts())
	if len(d.findings) == faults {
		d.ok(checkFile, caField, dir+" is its owner's alone, and the CA covers every routed host")
	}
}

// caField is where routes.yaml names the folder of the CA.
const caField = "intercept.ca_dir"

// checkOwners tells whether path is its owner's alone; mode is what it should be.
func (d *doctor) checkOwners(path, mode string) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		d.no(checkFile, caField, path+" "+whyUnread(err), "gateway ca init --force begins anew; clients then need the new root")
	case info.Mode().Perm()&0o077 != 0:
		d.no(checkFile, caField, fmt.Sprintf("others may use %s (mode %04o), and sign in the name of every routed host", path, info.Mode().Perm()), "chmod "+mode+" "+path)
	}
}

// checkIssuing tells which hosts no CA of the file may sign for now.
func (d *doctor) checkIssuing(path string, hosts []string) {
	all, err := certificatesIn(path)
	if err != nil {
		d.no(checkFile, caField, path+" "+whyUnread(err), "gateway ca init --force begins anew; clients then need the new root")
		return
	}
	now, inForce := time.Now(), false
	var missing []string
	for _, h := range hosts {
		covered := false
		for _, c := range all {
			valid := now.After(c.NotBefore) && now.Before(c.NotAfter)
			inForce = inForce || valid
			covered = covered || valid && permits(c, h)
		}
		if !covered {
			missing = append(missing, h)
		}
	}
	switch {
	case len(hosts) > 0 && !inForce:
		d.no(checkFile, caField, "no CA in "+path+" is valid now", "restart the gateway, which renews it, and give clients the new root: gateway ca export")
	case len(missing) > 0:
		d.no(checkFile, caField, "the CA may not sign for "+listed(missing), "gateway reload renews it; then give clients the new root: gateway ca export")
	}
}

// permits tells whether the name constraints of c let it sign for host; a
// wildcard stands for every name below.
func permits(c *x509.Certificate, host string) bool {
	host = strings.TrimPrefix(host, "*.")
	if ip := net.ParseIP(host); ip != nil { // of loopback, for SQL doors
		return slices.ContainsFunc(c.PermittedIPRanges, func(n *net.IPNet) bool { return n.Contains(ip) })
	}
	return slices.ContainsFunc(c.PermittedDNSDomains, func(domain string) bool {
		domain = strings.TrimPrefix(domain, ".")
		return host == domain || below(host, domain)
	})
}
