//go:build !linux

package main

import "syscall"

// dieWithParent knows no way here.
func dieWithParent(*syscall.SysProcAttr) {}

// ownUID is nil: no kernel but Linux is asked who a peer is.
func ownUID() *uint32 { return nil }

// hideSecrets knows no way here; on macOS and the BSDs reading another
// process's memory takes root.
func hideSecrets() error { return nil }
