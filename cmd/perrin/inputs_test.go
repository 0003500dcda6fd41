package main

import (
	"os"
	"slices"
	"testing"
)

// TestWhatArgumentsShip: files below the working directory go along; what every
// node has of its own does not, and is no mistake; for the rest there is a note.
func TestWhatArgumentsShip(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, name := range []string{"data.csv", "other"} {
		if err := os.WriteFile(name, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	elsewhere := t.TempDir()
	found, notes, err := autoInputs([]string{"data.csv", "-v", "no such file", "/", "/bin/sh", "/proc/self/stat", "/proc/sys/kernel/ostype", "/dev/null", elsewhere, "."})
	if err != nil {
		t.Fatal(err)
	}
	var shipped []string
	for _, in := range found {
		shipped = append(shipped, in.String())
	}
	if len(found) != 1 || found[0].path != "data.csv" {
		t.Errorf("shipped: %q", shipped)
	}
	if want := []string{
		"not shipped: " + elsewhere + " is an absolute path; use --input " + elsewhere + " if the program needs it",
		"not shipped: the whole working directory; use --input for what the program needs",
	}; !slices.Equal(notes, want) {
		t.Errorf("notes %q, want %q", notes, want)
	}
}
