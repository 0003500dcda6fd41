package vm

// readTSC reads the time stamp counter of the processor.
func readTSC() uint64
