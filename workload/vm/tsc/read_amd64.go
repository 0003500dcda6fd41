package tsc

// read reads the time stamp counter of the processor.
func read() uint64
