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
