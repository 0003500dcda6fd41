package roots

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/perrin-mesh/perrin/workload/sandbox"
)

// ErrClosed is returned after Close.
var ErrClosed = errors.New("the store of images is closed")

// Cache is the roots of one node. Its methods may be called concurrently.
type Cache struct {
	dir   string
	boot  string
	limit int64
	log   *slog.Logger
	now   func() time.Time

	mu     sync.Mutex
	roots  map[digest.Digest]*root
	seq    int
	closed bool
}

// root is one root, made or in the making.
type root struct {
	key   digest.Digest
	bytes int64
	used  time.Time
	users int
	ready chan struct{} // closed when it is made or has failed
	err   error
}

// about is what is written beside a root once it is whole.
type about struct {
	Bytes int64  `json:"bytes"`
	Boot  string `json:"boot"` // of the machine: what was not on the disk is gone with it
}

// Names in the cache's folder: "tmp-" is in the making or on its way out, and a
// root counts only with its note beside it.
const (
	tmpPrefix  = "tmp-"
	noteSuffix = ".json"
)

// Open opens the cache in dir, makes it where it is missing and removes what is
// not whole. limit bounds the bytes of all roots that nothing uses.
func Open(dir string, limit int64, log *slog.Logger) (*Cache, error) {
	c := &Cache{dir: dir, limit: limit, log: log, now: time.Now, roots: map[digest.Digest]*root{}}
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, fmt.Errorf("images: %w", err)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, fmt.Errorf("images: %w", err)
	}
	c.boot = strings.TrimSpace(string(boot))
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("images: %w", err)
	}
	for _, e := range entries {
		if !c.adopt(e) {
			if err := sandbox.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return nil, fmt.Errorf("images: clear what an earlier daemon left: %w", err)
			}
		}
	}
	return c, c.evict()
}

// adopt takes a root of an earlier daemon, and reports whether the entry stays.
func (c *Cache) adopt(e fs.DirEntry) bool {
	name, isNote := strings.CutSuffix(e.Name(), noteSuffix)
	key := digest.NewDigestFromEncoded(digest.SHA256, name)
	if key.Validate() != nil {
		return false
	}
	var a about
	raw, err := os.ReadFile(c.path(key) + noteSuffix)
	info, serr := os.Stat(c.path(key) + noteSuffix)
	if err != nil || serr != nil || json.Unmarshal(raw, &a) != nil || a.Bytes < 0 || a.Boot != c.boot {
		return false
	}
	if isNote {
		_, err := os.Stat(c.path(key))
		return err == nil
	}
	r := &root{key: key, bytes: a.Bytes, used: info.ModTime(), ready: make(chan struct{})}
	close(r.ready)
	c.roots[key] = r
	return true
}

func (c *Cache) path(key digest.Digest) string { return filepath.Join(c.dir, key.Encoded()) }

// Get returns the folder of a root, and what to call once when it is not used
// any more. When there is none, fill makes it in the empty folder it is given
// and returns how many bytes it holds; callers at the same time share that, and
// one of them goes on when the one that fills is cancelled.
func (c *Cache) Get(ctx context.Context, key digest.Digest, fill func(dir *os.Root) (int64, error)) (path string, release func(), err error) {
	for {
		r, mine, err := c.take(key)
		if err != nil {
			return "", nil, err
		}
		if mine {
			c.finish(r, c.make(r, fill))
		}
		select {
		case <-r.ready:
			err = r.err
		case <-ctx.Done():
			err = ctx.Err()
		}
		if err == nil {
			return c.path(key), sync.OnceFunc(func() { c.drop(r) }), nil
		}
		c.drop(r)
		if mine || ctx.Err() != nil || !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
			return "", nil, err
		}
	}
}

// take notes a user of a root, and reports whether they have to make it.
func (c *Cache) take(key digest.Digest) (r *root, mine bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, false, ErrClosed
	}
	r = c.roots[key]
	if r == nil {
		r, mine = &root{key: key, ready: make(chan struct{})}, true
		c.roots[key] = r
	}
	r.users++
	return r, mine, nil
}

// finish says how the making of a root ended. One that failed is forgotten, so
// that the next caller tries again.
func (c *Cache) finish(r *root, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.err = err; err != nil {
		delete(c.roots, r.key)
	}
	close(r.ready)
}

// drop ends one use of a root.
func (c *Cache) drop(r *root) {
	c.mu.Lock()
	r.users--
	r.used = c.now()
	whole := c.roots[r.key] == r && r.users == 0 && !c.closed
	c.mu.Unlock()
	if !whole {
		return
	}
	_ = os.Chtimes(c.path(r.key)+noteSuffix, r.used, r.used) // the next daemon's order of eviction, no more
	if err := c.evict(); err != nil {
		c.log.Warn("remove an image that is not used", "err", err)
	}
}

// make makes a root and gives it its name.
func (c *Cache) make(r *root, fill func(dir *os.Root) (int64, error)) (err error) {
	c.mu.Lock()
	tmp := c.tmp()
	c.mu.Unlock()
	defer func() {
		if err != nil {
			err = errors.Join(err, sandbox.RemoveAll(tmp))
		}
	}()
	if err := errors.Join(os.Mkdir(tmp, 0o755), os.Chmod(tmp, 0o755)); err != nil {
		return fmt.Errorf("images: %w", err)
	}
	bytes, err := fillIn(tmp, fill)
	if err != nil {
		return err
	}
	note, err := json.Marshal(about{Bytes: bytes, Boot: c.boot})
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r.bytes = bytes
	if err := os.Rename(tmp, c.path(r.key)); err != nil {
		return fmt.Errorf("images: %w", err)
	}
	tmp = c.path(r.key)
	if err := os.WriteFile(tmp+noteSuffix, note, 0o600); err != nil {
		return fmt.Errorf("images: %w", err)
	}
	return nil
}

func fillIn(dir string, fill func(dir *os.Root) (int64, error)) (int64, error) {
	at, err := os.OpenRoot(dir)
	if err != nil {
		return 0, fmt.Errorf("images: %w", err)
	}
	defer at.Close()
	return fill(at)
}

// tmp names a folder that no other has. The caller holds mu.
func (c *Cache) tmp() string {
	c.seq++
	return filepath.Join(c.dir, fmt.Sprintf("%s%d-%d", tmpPrefix, os.Getpid(), c.seq))
}

// evict removes what was not used for longest until the rest is within the limit.
func (c *Cache) evict() error {
	gone, err := c.excess()
	errs := []error{err}
	for _, dir := range gone {
		errs = append(errs, sandbox.RemoveAll(dir))
	}
	return errors.Join(errs...)
}

// excess takes away the names of the roots that have to go and returns where
// they are now. Nobody can get one from then on.
func (c *Cache) excess() (gone []string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var idle []*root
	var sum int64
	for _, r := range c.roots {
		sum += r.bytes
		if r.users == 0 {
			idle = append(idle, r)
		}
	}
	slices.SortFunc(idle, func(a, b *root) int {
		return cmp.Or(a.used.Compare(b.used), strings.Compare(string(a.key), string(b.key)))
	})
	for _, r := range idle {
		if sum <= c.limit {
			break
		}
		tmp := c.tmp()
		// Without its note a root is nothing: whatever happens next, it goes.
		if err := os.Remove(c.path(r.key) + noteSuffix); err != nil {
			return gone, err
		}
		if err := os.Rename(c.path(r.key), tmp); err != nil {
			return gone, err
		}
		delete(c.roots, r.key)
		sum -= r.bytes
		gone = append(gone, tmp)
	}
	return gone, nil
}

// Usage is what the cache holds.
type Usage struct {
	Roots int   `json:"roots"`
	Bytes int64 `json:"bytes"`
	Used  int   `json:"used"` // roots in use
}

// Usage returns what the cache holds now.
func (c *Cache) Usage() (u Usage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.roots {
		u.Roots++
		u.Bytes += r.bytes
		if r.users > 0 {
			u.Used++
		}
	}
	return u
}

// Close keeps anything new from being made. What is in use stays so.
func (c *Cache) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	return nil
}
