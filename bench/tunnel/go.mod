module github.com/seed-13b04e61/gateway/bench/tunnel

go 1.26.0

toolchain go1.26.8

require github.com/elazarl/goproxy v1.9.3

require (
	golang.org/x/net v0.50.0 // indirect
	golang.org/x/text v0.34.0 // indirect
)
