// Package bench measures the gateway side by side with what it is built on:
// run make bench. Figures of one run compare with each other and with nothing
// else.
package bench
