// Package unpack makes a root file system of the layers of an image, which are
// archives from strangers (image-spec 1.1, "Image Layer Filesystem Changeset").
//
// It works below one os.Root, so no path and no link leads out of it. Links of
// the image are resolved as the image's programs will see them, with / at the
// root. Nobody else may change the folder meanwhile.
//
// What it makes belongs to this process's user, whoever an entry says. Files and
// folders keep their permission bits; whoever may read what its owner may
// is widened to everyone, because a program of the image runs as one user alone.
// Set-user-ID, set-group-ID, extended attributes and owners are dropped. Devices,
// pipes and sockets are left out: a sandbox has its own. Sparse files are refused.
package unpack
