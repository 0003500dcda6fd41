package collect

import (
	"context"
	"os"
	"path/filepath"
	"time"
)

const (
	maxCollateral = 256 << 10        // bytes of a certificate, list or document of a maker
	maxFailed     = 64               // documents that could not be had, which are remembered
	fetchAgain    = 10 * time.Minute // before one of them is asked for again
)

// Collateral is what makers publish to go with evidence, kept in a folder. It
// travels with the evidence, so that who appraises needs no network. Whoever
// fills the folder by hand, as a machine without a way out needs, names files as
// the errors here say.
type Collateral struct {
	// Dir is the folder; it is made when the first file comes.
	Dir string
	// Fetch gets a document over the network; nil does without. Which servers it
	// asks is in its hands.
	Fetch func(ctx context.Context, url string) (*Document, error)
	// Fresh is how old a file may be before it is asked for again.
	Fresh time.Duration
	Now   func() time.Time

	failed map[string]time.Time // by URL; used by one collection at a time, as Source says
}

// Document is what a maker publishes, and the certificates of who signed it,
// which Intel puts into a header.
type Document struct {
	Body  []byte
	Chain string // PEM, or nothing
}

// get returns a document by its file's name, from the folder or where it is not
// there or old, from its maker. An old one is better than none. A document that
// is nowhere is nil: then whoever appraises says what is missing.
func (c *Collateral) get(ctx context.Context, name, url string) *Document {
	if c == nil {
		return nil
	}
	kept, at := c.read(name)
	if kept != nil && (c.Fetch == nil || c.Now().Sub(at) < c.Fresh) {
		return kept
	}
	if c.Fetch == nil || url == "" || c.Now().Sub(c.failed[url]) < fetchAgain {
		return kept
	}
	d, err := c.Fetch(ctx, url)
	if err != nil || len(d.Body) > maxCollateral || len(d.Chain) > maxCollateral {
		if len(c.failed) >= maxFailed || c.failed == nil {
			c.failed = map[string]time.Time{}
		}
		c.failed[url] = c.Now()
		return kept
	}
	_ = c.write(name, d) // next time it is fetched again
	return d
}

func (c *Collateral) read(name string) (*Document, time.Time) {
	path := filepath.Join(c.Dir, name)
	about, err := os.Stat(path)
	if err != nil || about.Size() > maxCollateral {
		return nil, time.Time{}
	}
	body, err := os.ReadFile(path)
	if err != nil {
		return nil, time.Time{}
	}
	d := &Document{Body: body}
	if about, err := os.Stat(path + ".chain"); err == nil && about.Size() <= maxCollateral {
		chain, _ := os.ReadFile(path + ".chain")
		d.Chain = string(chain)
	}
	return d, about.ModTime()
}

func (c *Collateral) write(name string, d *Document) error {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return err
	}
	path := filepath.Join(c.Dir, name)
	if d.Chain != "" {
		if err := replace(path+".chain", []byte(d.Chain)); err != nil {
			return err
		}
	}
	return replace(path, d.Body)
}

// replace writes a file so that it is there whole or as it was.
func replace(path string, b []byte) error {
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// missing says where a document would be looked for.
func (c *Collateral) missing(name, url string) string {
	if c == nil {
		return name
	}
	if url == "" {
		return filepath.Join(c.Dir, name)
	}
	return filepath.Join(c.Dir, name) + " (put there what " + url + " answers)"
}
