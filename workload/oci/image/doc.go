// Package image reads what describes a container image (OCI image specification
// 1.1, and Docker's manifests of version 2, which differ in names only): an index
// of platforms, a manifest, a configuration. It is pure: bytes in, structs out.
//
// What a workload carries is a Record: the bytes of one platform's manifest and
// of its configuration, as the registry has them. Every digest in them is still
// that of the image, so whoever unpacks a layer checks it against the record
// which the owner has signed for.
package image
