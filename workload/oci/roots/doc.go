// Package roots keeps the root file systems that images unpack to, on disk, one
// folder each, named by what their layers are. A root is made once, used by any
// number of tasks at once and never changed. When all of them together hold more
// than they may, those that were not used for longest go, as far as nothing uses
// them. What a crash leaves half made goes at the next Open.
package roots
