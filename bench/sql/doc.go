// The sql command measures the SQL door's relay beside relays that know nothing
// of TDS, in one run. A server sends results over TLS, and clients get them
// through
//
//   - relay: the gateway's, which ends the server's TLS, to a client in clear text,
//   - plain: a relay of bytes by io.Copy, where the client does the TLS itself,
//   - hop: io.Copy between the server's TLS and a client in clear text, the floor for relay,
//   - relay TLS: the gateway's, with TLS on both sides,
//   - hops: io.Copy between TLS on both sides, the floor for that.
//
// Each is a process of its own, whose CPU time is what the kernel counts for it.
// All run all the time and get their load in turns: what the machine's
// neighbours take, they take from all. Figures of one run compare with each
// other and with nothing else.
//
//	go run ./bench/sql
package main
