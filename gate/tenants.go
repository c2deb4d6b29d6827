package gate

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/seed-13b04e61/gateway/routes"
)

// tenantRules are a route's: how a call names its tenant, and which it may.
type tenantRules struct {
	header   string   // "" when the path or the caller names it
	prefix   []string // of the path: its first segments, one of which is the tenant
	hole     int      // which
	byCaller bool
	lists    []*tenantSet // one of them has to hold the tenant; nil: the route has no list
}

// tenantRules works out r.Tenant, whose files were read.
func (g *Gate) tenantRules(r *routes.Route) *tenantRules {
	c := r.Tenant
	t := &tenantRules{header: c.Header, byCaller: c.ByCaller}
	if c.Path != "" {
		t.prefix = strings.Split(strings.Trim(c.Path, "/"), "/")
		t.hole = slices.Index(t.prefix, "{tenant}")
	}
	if c.Allowed != nil {
		t.lists = append(t.lists, setOfTenants(c.Allowed))
	}
	if c.AllowedFile != "" {
		t.lists = append(t.lists, g.files[c.AllowedFile])
	}
	return t
}

// cut takes the template's segments off an escaped path. They stand for
// themselves, unescaped: another spelling of them does not match.
func (t *tenantRules) cut(escaped string) (tenant, rest string, ok bool) {
	rest = escaped
	for i, want := range t.prefix {
		if rest == "" || rest[0] != '/' {
			return "", "", false
		}
		segment := rest[1:]
		if end := strings.IndexByte(segment, '/'); end >= 0 {
			segment, rest = segment[:end], segment[end:]
		} else {
			rest = ""
		}
		switch {
		case i == t.hole:
			tenant = segment
		case segment != want:
			return "", "", false
		}
	}
	if rest == "" {
		rest = "/"
	}
	return tenant, rest, tenant != ""
}

// chooseTenant finds the tenant that the call names, sees that the route and
// the caller may have it, and takes its keys.
func (d *decision) chooseTenant() *Refusal {
	rules, r := d.plan.tenants, d.pass.Route
	if rules == nil {
		return nil
	}
	named, why := d.namedTenant(rules)
	if why != "" {
		return d.tenantDenied(why, "")
	}
	tenant, ok := canonicalTenant(named)
	if !ok {
		return d.tenantDenied("what it names is neither the GUID nor the domain of a tenant", "")
	}
	if why := d.mayHave(rules, tenant); why != "" {
		refusal := d.tenantDenied("the tenant that it names is not among those allowed", fmt.Sprintf("tenant %s: %s", tenant, why))
		if why == notTheCallers {
			refusal.ground.Line = d.gate.table.Callers[d.who].Line
		}
		return refusal
	}
	switch {
	case d.gate.keys == nil, !r.Credential.Entra(), r.Credential.ManagedIdentity != nil, r.Registry:
		return d.tenantDenied("its credential has tokens of one tenant alone", "")
	}
	d.pass.Tenant, d.pass.Drop = tenant, rules.header
	d.pass.Key = d.gate.keys.KeyFor(r.Credential, r.Scope, tenant)
	if r.Second != nil {
		d.pass.SecondKey = d.gate.keys.KeyFor(r.Credential, r.Second.Scope, tenant)
	}
	return nil
}

// namedTenant is the tenant as the call has it, or why it has none.
func (d *decision) namedTenant(rules *tenantRules) (named, why string) {
	switch {
	case rules.header != "":
		lines := d.target.Header[rules.header]
		if len(lines) != 1 {
			return "", fmt.Sprintf("the call needs the field %s, once, and has it %d times", rules.header, len(lines))
		}
		return lines[0], ""
	case rules.prefix != nil:
		if d.named == "" {
			return "", "the path does not begin with " + d.pass.Route.Tenant.Path
		}
		return d.named, ""
	case rules.byCaller && d.who >= 0:
		if own := d.gate.table.Callers[d.who].Tenants; len(own) == 1 {
			return own[0], ""
		}
		return "", "the caller does not have exactly one tenant"
	}
	return "", "it is the caller's, and the call has none"
}

// mayHave says why the call may not have the tenant, or "".
func (d *decision) mayHave(rules *tenantRules, tenant string) (why string) {
	var own *tenantSet
	if d.who >= 0 {
		own = d.gate.tenants[d.who]
	}
	holds := func(s *tenantSet) bool { return s.holds(tenant) }
	switch {
	case rules.lists == nil && own == nil:
		return "neither the route nor the caller has a list of tenants"
	case rules.lists != nil && !slices.ContainsFunc(rules.lists, holds):
		return "it is not in the route's list"
	case own != nil && !own.holds(tenant):
		return notTheCallers
	}
	return ""
}

// notTheCallers is the one reason that lies with the caller.
const notTheCallers = "it is not among the caller's tenants"

func (d *decision) tenantDenied(detail, cause string) *Refusal {
	return &Refusal{
		Code:   TenantDenied,
		Detail: fmt.Sprintf("route %s takes the tenant from the call: %s", d.pass.Route.Name, detail),
		Remedy: "name one tenant by its GUID or domain, of those that tenant of the route and tenants of the caller allow",
		Cause:  cause,
		ground: Ground{d.pass.Route.Lines.Tenant, cmp.Or(cause, detail)},
	}
}

// maxTenant bounds a domain (RFC 1035 §2.3.4), and maxTenantLabel its labels.
const (
	maxTenant      = 253
	maxTenantLabel = 63
)

// canonicalTenant is a tenant's GUID or domain in lower case. Words such as
// common, which name no tenant, are neither.
func canonicalTenant(s string) (tenant string, ok bool) {
	if len(s) > maxTenant {
		return "", false
	}
	dots, label := 0, 0
	upper := false
	for i := range len(s) {
		c := s[i]
		switch {
		case c == '.':
			if label == 0 || s[i-1] == '-' {
				return "", false
			}
			dots, label = dots+1, 0
			continue
		case c == '-':
			if label == 0 {
				return "", false
			}
		case 'A' <= c && c <= 'Z':
			upper = true
		case c < '0' || c > '9' && c < 'a' || c > 'z':
			return "", false
		}
		if label++; label > maxTenantLabel {
			return "", false
		}
	}
	if label == 0 || s[len(s)-1] == '-' {
		return "", false
	}
	if upper {
		s = strings.ToLower(s) // ASCII alone, by now
	}
	if dots == 0 {
		_, ok = parseGUID([]byte(s))
		return s, ok
	}
	return s, true
}

// guid is a GUID's 128 bits.
type guid struct{ high, low uint64 }

func (g guid) compare(other guid) int {
	if g.high != other.high {
		return cmp.Compare(g.high, other.high)
	}
	return cmp.Compare(g.low, other.low)
}

// parseGUID reads the form with four hyphens, of either case.
func parseGUID(s []byte) (guid, bool) {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return guid{}, false
	}
	var digits [32]byte
	n := copy(digits[:], s[:8])
	n += copy(digits[n:], s[9:13])
	n += copy(digits[n:], s[14:18])
	n += copy(digits[n:], s[19:23])
	copy(digits[n:], s[24:])
	var bits [16]byte
	if _, err := hex.Decode(bits[:], digits[:]); err != nil {
		return guid{}, false
	}
	return guid{binary.BigEndian.Uint64(bits[:8]), binary.BigEndian.Uint64(bits[8:])}, true
}

// tenantSet is a list of tenants, of which there may be a million: 16 bytes for
// each GUID; for each domain, its letters and as much. nil holds none.
type tenantSet struct {
	guids   []guid   // sorted
	domains []string // sorted; parts of one text
}

func (s *tenantSet) holds(tenant string) bool {
	if s == nil {
		return false
	}
	if g, ok := parseGUID([]byte(tenant)); ok {
		_, found := slices.BinarySearchFunc(s.guids, g, guid.compare)
		return found
	}
	_, found := slices.BinarySearch(s.domains, tenant)
	return found
}

// setOfTenants is nil for nil alone.
func setOfTenants(list []string) *tenantSet {
	if list == nil {
		return nil
	}
	s := &tenantSet{}
	for _, tenant := range list {
		if g, ok := parseGUID([]byte(tenant)); ok {
			s.guids = append(s.guids, g)
		} else {
			s.domains = append(s.domains, tenant)
		}
	}
	s.sort()
	return s
}

func (s *tenantSet) sort() {
	slices.SortFunc(s.guids, guid.compare)
	slices.Sort(s.domains)
	s.guids, s.domains = slices.Compact(s.guids), slices.Compact(s.domains)
}

// readLists reads every allowed_file once, or keeps what previous had of it.
func (g *Gate) readLists(previous *Gate) (errs []error) {
	for _, r := range g.table.Routes {
		if r.Tenant == nil || r.Tenant.AllowedFile == "" {
			continue
		}
		path := r.Tenant.AllowedFile
		if _, done := g.files[path]; done {
			continue
		}
		set, err := readTenants(path)
		if err != nil {
			now := "the route refuses every tenant of it"
			if previous != nil && previous.files[path] != nil {
				set, now = previous.files[path], "the last good list stays in use"
			}
			errs = append(errs, fmt.Errorf("route %s: tenant.allowed_file: %w; %s", r.Name, err, now))
		}
		g.files[path] = set
	}
	return errs
}

// Bounds of a file of tenants, in bytes.
const (
	maxTenantFile = 256 << 20
	maxTenantLine = 4096
	guidLine      = 37 // a GUID's
)

// readTenants reads a file of one tenant a line. Empty lines do not count, nor
// does what follows a '#'. One line that is no tenant spoils the file: half a
// list is worse than that of yesterday.
func readTenants(path string) (*tenantSet, error) {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() { // to open a pipe would wait for its writer
		err = fmt.Errorf("%s is no regular file", path)
	}
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s, err := parseTenants(io.LimitReader(f, maxTenantFile+1), min(info.Size(), maxTenantFile))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// parseTenants reads a list of so many bytes, more or less.
func parseTenants(r io.Reader, size int64) (*tenantSet, error) {
	s := &tenantSet{guids: make([]guid, 0, size/guidLine+1)}
	var text []byte // of all domains
	var ends []int
	lines := bufio.NewReaderSize(r, maxTenantLine)
	read := 0
	for n, last := 1, false; !last; n++ {
		line, err := lines.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF):
			last = true
		case errors.Is(err, bufio.ErrBufferFull):
			return nil, fmt.Errorf("line %d is longer than %d bytes", n, maxTenantLine)
		case err != nil:
			return nil, err
		}
		if read += len(line); read > maxTenantFile {
			return nil, fmt.Errorf("it is larger than %d bytes", maxTenantFile)
		}
		if n == 1 {
			line = bytes.TrimPrefix(line, []byte("\ufeff"))
		}
		line, _, _ = bytes.Cut(line, []byte("#"))
		line = bytes.Trim(line, " \t\r\n")
		if len(line) == 0 {
			continue
		}
		if g, ok := parseGUID(line); ok {
			s.guids = append(s.guids, g)
			continue
		}
		domain, ok := canonicalTenant(string(line))
		if !ok {
			return nil, fmt.Errorf("line %d is neither the GUID nor the domain of a tenant", n)
		}
		text = append(text, domain...)
		ends = append(ends, len(text))
	}
	s.domains = make([]string, 0, len(ends))
	begin, all := 0, string(text)
	for _, end := range ends {
		s.domains = append(s.domains, all[begin:end])
		begin = end
	}
	s.sort()
	s.guids = slices.Clone(s.guids) // of the size that it needs
	return s, nil
}
