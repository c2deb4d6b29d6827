// Package e2e is the proof with clients and servers that nobody here wrote:
// the built gateway over real sockets, called by curl, wget, Python, Node,
// Java and the Graph SDK, with tokens of a certified authorization server, and
// squid on the way out. There is nothing in it but tests.
//
// make clients installs what they need. A tool that is missing is a failure:
// nothing is skipped.
package e2e
