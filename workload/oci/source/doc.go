// Package source finds container images and reads them: from a registry, from
// an OCI layout folder, or from an archive of one. It runs on the side of
// whoever names the image, with their credentials. It resolves a tag to a
// digest once; from there on everything is checked against that digest.
//
// Credentials come from Docker's configuration (~/.docker/config.json or
// $DOCKER_CONFIG), its credential helpers included. A registry on a loopback
// address may speak plain HTTP, as for Docker; every other must speak TLS.
package source
