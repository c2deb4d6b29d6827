//go:build !linux

package main

import "time"

// monotonic is zero: there is no systemd that would ask for it.
func monotonic() time.Duration { return 0 }
