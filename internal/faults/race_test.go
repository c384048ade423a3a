//go:build race

package faults

// memoryFactor is how much more memory the race detector takes.
const memoryFactor = 4
