package main

// getpid32 makes the 32-bit getpid call from 64-bit code.
func getpid32() int
