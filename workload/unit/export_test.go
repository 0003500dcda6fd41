package unit

import "maps"

// Paths returns every path the server knows, the reserved ones too.
func Paths() (paths []string) {
	for p := range maps.Keys(routes) {
		paths = append(paths, p)
	}
	for _, r := range reserved {
		paths = append(paths, "/v1/"+r)
	}
	return paths
}
