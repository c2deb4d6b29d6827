package main

import "time"

// pause is the step of the scripts' polling of another process.
func pause() { time.Sleep(50 * time.Millisecond) }
