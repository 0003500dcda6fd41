package main

import "runtime/debug"

// version is set by the build with -ldflags "-X main.version=v1.2.3".
var version string

// built returns the parts that this binary is made of.
func built() parts { return parts{Version: buildVersion()} }

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
