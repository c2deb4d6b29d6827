package main

import (
	"errors"
	"regexp"
	"strings"
)

// fault is what a runtime's words mean.
type fault struct {
	words  string // lower case, a part of one line
	means  string
	remedy string // "": how the runtime is made to trust
}

const (
	untrusted  = "it does not trust the gateway's CA, and refuses every call"
	notCovered = "the gateway's CA may not sign for this host"
	expired    = "it takes the gateway's certificate for expired or not yet valid"
	noTrust    = "its file of trusted CAs cannot be read"

	renewCA   = "have the gateway read routes.yaml again (gateway reload), then see gateway ca show"
	setClocks = "compare the clocks, then see gateway ca show for the dates"
)

// faults are in the order in which they are looked for: what says more comes
// first, as Python and git put the same words before every cause.
func faults() []fault {
	return []fault{
		{"permitted subtree violation", notCovered, renewCA},
		{"name constraints check failed", notCovered, renewCA},
		{"certificate has expired", expired, setClocks},
		{"certificate is not yet valid", expired, setClocks},
		{"not yet activated", expired, setClocks},
		{"certificateexpiredexception", expired, setClocks},
		{"certificatenotyetvalidexception", expired, setClocks},
		{"hostname mismatch", "the certificate is for another host", renewCA},
		{"no alternative certificate subject name matches", "the certificate is for another host", renewCA},
		{"error setting certificate", noTrust, ""},
		{"invalid path: ", noTrust, ""},
		{"could not find a suitable tls ca certificate bundle", noTrust, ""},
		{"trustanchors parameter must be non-empty", noTrust, ""},
		{"keystore password was incorrect", "the password of its trust store is wrong", ""},
		{"unable to get local issuer certificate", untrusted, ""},
		{"unable_to_get_issuer_cert", untrusted, ""},
		{"self-signed certificate", untrusted, ""},
		{"self signed certificate", untrusted, ""},
		{"self_signed_cert", untrusted, ""},
		{"unable to verify the first certificate", untrusted, ""},
		{"pkix path building failed", untrusted, ""},
		{"unable to find valid certification path", untrusted, ""},
		{"certificate_verify_failed", untrusted, ""},
		{"certificate verify failed", untrusted, ""},
		{"server certificate verification failed", untrusted, ""},
		{"ssl certificate problem", untrusted, ""},
		{"cannot verify", untrusted, ""},
		{"is not trusted", untrusted, ""},
		{"unknown issuer", untrusted, ""},
		{"unknownissuer", untrusted, ""},
		{"no compiler module", "this Java cannot compile the probe, so it was not asked", "look for the CA yourself: keytool -list -cacerts -storepass changeit"},
		{"jdk.compiler", "this Java cannot compile the probe, so it was not asked", "look for the CA yourself: keytool -list -cacerts -storepass changeit"},
		{"could not find or load main class", "this Java is older than 11 and was not asked", "look for the CA yourself: keytool -list -keystore lib/security/cacerts -storepass changeit"},
		{"response 407", "the gateway does not take its credential", "compare the key in the proxy URL with callers: of routes.yaml"},
		{"407 proxy", "the gateway does not take its credential", "compare the key in the proxy URL with callers: of routes.yaml"},
	}
}

// answered matches an answer of the gateway's own inside the tunnel.
var (
	answerLine = regexp.MustCompile(`(?m)^answer (\d{3}) (\S+)`)
	statusLine = regexp.MustCompile(`(?m)HTTP/[\d.]+ (\d{3})`)
	answerID   = regexp.MustCompile(`(?im)(^|\s)gateway-request-id: *\S+`)
)

// answeredWith is the status of the gateway's answer in out, or "". git tells
// of the answers to CONNECT before it, a 407 among them, so the last counts.
func answeredWith(out string) string {
	if m := answerLine.FindStringSubmatch(out); m != nil {
		return m[1]
	}
	all := statusLine.FindAllStringSubmatchIndex(out, -1)
	if len(all) == 0 {
		return ""
	}
	last := all[len(all)-1]
	status := out[last[2]:last[3]]
	if status == "407" || !answerID.MatchString(out[last[1]:]) {
		return ""
	}
	return status
}

// judge turns what a probe wrote into a finding.
func judge(p probe, version, out string, err error) finding {
	f := finding{Check: checkTrust, Subject: p.who, Verdict: verdictNo}
	with := " (" + short(version) + ")"
	switch answeredWith(out) {
	case "204":
		f.Verdict, f.Message = verdictOK, "it calls through the gateway and trusts its CA"+with
		if strings.Contains(out, "Ignoring extra certs") {
			f.Verdict, f.Message = verdictWarning, "it trusts the gateway's CA, and cannot read the file of NODE_EXTRA_CA_CERTS"+with
			f.Remedy = "correct or unset it"
		}
		return f
	case "":
	default:
		f.Message = "it trusts the gateway's CA, and the gateway answers " + answeredWith(out) + with
		f.Remedy = "look at the gateway's log"
		return f
	}
	if errors.Is(err, errProbeSlow) {
		f.Message, f.Remedy = "its call did not end in time"+with, "try again when the machine is idle; look at the gateway's log"
		return f
	}
	if m, line := diagnose(out); m != nil {
		f.Message, f.Remedy = m.means+with+": "+quoted(line), m.remedy
		if f.Remedy == "" {
			f.Remedy = p.trusts
		}
		if strings.Contains(m.means, "was not asked") {
			f.Verdict = verdictWarning
		}
		return f
	}
	f.Message, f.Remedy = "its call fails"+with+": "+quoted(lastLine(out)), "look at the gateway's log"
	return f
}

// diagnose finds the first fault whose words stand in out, and their line.
func diagnose(out string) (*fault, string) {
	for _, m := range faults() {
		for line := range strings.Lines(out) {
			if strings.Contains(strings.ToLower(line), m.words) && !strings.HasPrefix(line, "Picked up ") {
				return &m, line
			}
		}
	}
	return nil, ""
}

// short is the number in a version line: "OpenJDK 17.0.15" needs no build.
func short(version string) string {
	if n := versionNumber.FindString(version); n != "" {
		return strings.Trim(n, `",;()`)
	}
	return version
}

// maxQuoted bounds what is repeated of a runtime's own words, in characters.
const maxQuoted = 200

// quoted is a runtime's own words, cut.
func quoted(line string) string {
	r := []rune(strings.Join(strings.Fields(line), " "))
	if len(r) > maxQuoted {
		return string(r[:maxQuoted-1]) + "…"
	}
	return string(r)
}

// lastLine is what a program said last. A line with a field of a request is
// none, as it may hold a credential.
func lastLine(out string) string {
	last := "it says nothing"
	for line := range strings.Lines(out) {
		lower := strings.ToLower(line)
		if strings.TrimSpace(line) != "" && !strings.Contains(lower, "authorization") && !strings.HasPrefix(line, "Picked up ") {
			last = line
		}
	}
	return last
}
