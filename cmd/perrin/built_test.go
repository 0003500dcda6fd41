package main

import "testing"

// TestACalibrationNamesItsCommit wants the commit beside the version, and no commit
// that is not known.
func TestACalibrationNamesItsCommit(t *testing.T) {
	if got := versionAndCommit("devel", "0c2036effd62+dirty"); got != "devel at 0c2036effd62+dirty" {
		t.Errorf("got %q", got)
	}
	if got := versionAndCommit("v0.1.0", ""); got != "v0.1.0, commit not known" {
		t.Errorf("got %q", got)
	}
}
