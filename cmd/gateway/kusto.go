package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/secrets"
)

const (
	// kustoMetadata is where a cluster names the resource that its tokens must
	// be for, to anybody who asks.
	kustoMetadata = "/v1/rest/auth/metadata"
	kustoTimeout  = 10 * time.Second
	kustoLimit    = 64 << 10 // bytes of the metadata that are read
)

// kustoHosts returns the exact hosts of r that are clusters of Azure Data
// Explorer or Fabric's Eventhouse.
func kustoHosts(r *routes.Route) []routes.HostPattern {
	var hosts []routes.HostPattern
	for _, h := range r.Hosts {
		named := slices.ContainsFunc([]string{".kusto.windows.net", ".kusto.fabric.microsoft.com", ".kusto.usgovcloudapi.net", ".kusto.chinacloudapi.cn"},
			func(suffix string) bool { return strings.HasSuffix(h.Host, suffix) })
		if !h.Wildcard && (named || r.Preset == "kusto") {
			hosts = append(hosts, h)
		}
	}
	return hosts
}

// checkKusto asks each cluster of the table which resource it wants, and warns
// where the scope asks for another.
func checkKusto(ctx context.Context, e *engine) []notice {
	var notices []notice
	for _, r := range e.gate.Load().Table().Routes {
		for _, h := range kustoHosts(r) {
			resource, err := kustoResource(ctx, e, r, h)
			switch {
			case err != nil:
				notices = append(notices, notice{
					text:   fmt.Sprintf("route %s: %s does not tell which tokens it takes: %v", r.Name, h, err),
					remedy: "check that this machine may reach the cluster; its scope was not compared",
				})
			case resource+"/.default" != r.Scope:
				notices = append(notices, notice{
					text:   fmt.Sprintf("route %s: %s takes tokens for %q, and scope asks for %q", r.Name, h, resource, r.Scope),
					remedy: fmt.Sprintf("write scope: %s/.default", resource),
				})
			}
		}
	}
	return notices
}

// kustoResource asks the cluster at h as the route would reach it, without a
// token.
func kustoResource(ctx context.Context, e *engine, r *routes.Route, h routes.HostPattern) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, kustoTimeout)
	defer cancel()
	trust, err := upstreamTLS(r, h.Host)
	if err != nil {
		return "", err
	}
	transport := &http.Transport{Proxy: nil, DialContext: e.hop.DialContext, TLSClientConfig: trust}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	host := strings.TrimSuffix(h.String(), ":443")
	base := "https://" + host
	if r.Upstream != nil {
		base = r.Upstream.String()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+kustoMetadata, nil)
	if err != nil {
		return "", err
	}
	req.Host = host
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("status %d", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, kustoLimit))
	if err != nil {
		return "", err
	}
	var answer struct {
		AzureAD struct{ KustoServiceResourceID string }
	}
	if err := json.Unmarshal(body, &answer); err != nil || !isResource(answer.AzureAD.KustoServiceResourceID) {
		return "", errors.New("its metadata name no resource")
	}
	return answer.AzureAD.KustoServiceResourceID, nil
}

// isResource tells whether a cluster's word can be shown and pasted: short,
// and of the characters that an audience has.
func isResource(s string) bool {
	ordinary := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune(":/.-_", c)
	}
	return s != "" && len(s) <= 256 && !strings.ContainsFunc(s, func(c rune) bool { return !ordinary(c) })
}

// upstreamTLS is how a route's upstream is trusted.
func upstreamTLS(r *routes.Route, host string) (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
	if r.TLS.ServerName != "" {
		cfg.ServerName = r.TLS.ServerName
	}
	if r.TLS.CAFile == "" {
		return cfg, nil
	}
	bundle, err := secrets.ReadFile(r.TLS.CAFile)
	if err != nil {
		return nil, err
	}
	cfg.RootCAs = x509.NewCertPool()
	if !cfg.RootCAs.AppendCertsFromPEM(bundle) {
		return nil, fmt.Errorf("%s holds no certificate", r.TLS.CAFile)
	}
	return cfg, nil
}
