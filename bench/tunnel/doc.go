// The tunnel command measures the gateway's tunnel door beside elazarl/goproxy,
// in one run: both end the TLS of a client's tunnel with a certificate of their
// own, add a bearer token, and send the call to the same upstream. A third, bare,
// is the floor for whoever builds that on Go's http.Server and ReverseProxy, as
// the gateway does. What is compared is calls per second of each proxy's own CPU time, user and system,
// as the kernel counts it for the process.
//
// All run all the time, and get their load in turns, in short slices: what
// the machine's neighbours take, they take from all. Figures of one run compare
// with each other and with nothing else.
//
//	cd bench/tunnel && go run .
package main
