package main

import (
	"context"
	"io"
	"runtime/debug"

	"github.com/perrin-mesh/perrin/workload/blob"
)

// version is set by the build with -ldflags "-X main.version=v1.2.3".
var version string

// built returns the parts that this binary is made of.
func built() parts {
	return parts{Version: buildVersion(), PackTree: packFolder, Embedded: embedded, Daemon: daemon{}}
}

func packFolder(ctx context.Context, dir string, w io.Writer) error {
	return blob.PackTree(ctx, dir, w, blob.DefaultLimits())
}

// buildCommit returns the commit that the binary was built of, with +dirty when files
// were changed; "" is not known.
func buildCommit() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	var commit, changed string
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			commit = s.Value[:min(len(s.Value), 12)]
		case s.Key == "vcs.modified" && s.Value == "true":
			changed = "+dirty"
		}
	}
	if commit == "" {
		return ""
	}
	return commit + changed
}

// versionAndCommit names a build, so that what it measured can be found again though
// no release has its version.
func versionAndCommit(version, commit string) string {
	if commit == "" {
		return version + ", commit not known"
	}
	return version + " at " + commit
}

// buildVersion returns what the build says of itself.
func buildVersion() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "devel"
	}
	return info.Main.Version
}
