//go:build !race

package faults

// memoryFactor is 1: nothing but the engine takes memory.
const memoryFactor = 1
