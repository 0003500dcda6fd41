package main

import (
	"strings"
	"testing"
)

// TestANumberIsNoProgram: "--spare 2 -- true" would run a program named 2.
func TestANumberIsNoProgram(t *testing.T) {
	_, err := findProgram("2", func(string) string { return "" })
	if err == nil || !strings.Contains(err.Error(), `no program "2"`) {
		t.Errorf("%v", err)
	}
	if p, err := findProgram("2to3", func(string) string { return "" }); err != nil || !p.unknown {
		t.Errorf("%+v, %v", p, err)
	}
}
