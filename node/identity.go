package node

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/perrin-mesh/perrin/mesh"
	"github.com/perrin-mesh/perrin/mesh/admission"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// ErrNoIdentity is returned when a data folder belongs to no mesh yet.
var ErrNoIdentity = errors.New("this machine belongs to no mesh yet")

// ErrHasIdentity is returned when a data folder belongs to a mesh already.
var ErrHasIdentity = errors.New("this machine belongs to a mesh already")

// Names of what lies in the keys folder of a data folder.
const (
	keyRoot      = "root"
	keyOperator  = "operator"
	keyOperator2 = "operator.next" // an operator's key lies in the one of the two that its certificate names
	keyNode      = "node"
	keyNode2     = "node.next"    // the new key of a node that changes it, until it is in its place
	keyRefused   = "node.refused" // one that was not let in
	keyOwner     = "owner"
	fileBundle   = "bundle"
	fileOperator = "operator.cert"
	fileInvites  = "invitations"
	fileTrust    = "trust"
	fileHome     = "home"
)

// identity is who a node is.
type identity struct {
	dir    string // of keys
	key    ed25519.PrivateKey
	owner  ed25519.PrivateKey // what it submits is signed with
	bundle admission.Bundle
	trust  *admission.Trust

	issuer atomic.Pointer[admission.Issuer] // nil on a node that is no operator's
}

// home is what a node remembers of its cell between starts.
type home struct {
	Cell     workload.CellID `cbor:"1,keyasint"`
	Founder  bool            `cbor:"2,keyasint"` // it is to found the cell, or has
	Contacts []string        `cbor:"3,keyasint" max:"64"`
	View     wire.CellView   `cbor:"4,keyasint"`
	Server   bool            `cbor:"5,keyasint"` // it has served the cell's group
	Boot     uint64          `cbor:"6,keyasint"` // grows with every start: what a daemon says replaces what the one before it said
	// Servers is where the other servers of the cell are, as far as it was ever known.
	Servers []wire.PeerAddrs `cbor:"7,keyasint,omitempty" max:"32"`
}

// Founded is what Init and Join tell.
type Founded struct {
	Mesh workload.MeshID
	Node workload.PeerID
	Name string
	// Apart is how far the clock of the node that let this one in was ahead of
	// this machine's, if that is much; else 0.
	Apart time.Duration
}

func keysDir(data string) string { return filepath.Join(data, "keys") }

// Init founds a mesh whose only node is this one: it makes the root, operator,
// node and owner keys in an empty data folder. The root key is only needed
// again to name another operator.
func Init(data, name string) (*Founded, error) {
	dir := keysDir(data)
	if _, err := os.Stat(filepath.Join(dir, fileBundle)); err == nil {
		return nil, fmt.Errorf("%s: %w", data, ErrHasIdentity)
	}
	root, err := admission.LoadOrCreateKey(dir, keyRoot)
	if err != nil {
		return nil, err
	}
	operator, err := admission.LoadOrCreateKey(dir, keyOperator)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	cert, err := admission.IssueOperator(root, idOf(operator), "operator", now)
	if err != nil {
		return nil, err
	}
	key, err := admission.LoadOrCreateKey(dir, keyNode)
	if err != nil {
		return nil, err
	}
	node, err := admission.IssueNode(operator, admission.MeshOf(idOf(root)), idOf(key), name, now)
	if err != nil {
		return nil, err
	}
	bundle := admission.Bundle{Root: idOf(root), Operator: cert, Node: node}
	if err := admission.WriteFile(dir, fileOperator, wire.MustMarshal(cert)); err != nil {
		return nil, err
	}
	return settle(dir, key, bundle, name, &home{Founder: true})
}

// ShareOwner gives a data folder that belongs to no mesh yet the owner's key of
// another, so that one person owns what is submitted on either node.
func ShareOwner(from, to string) error {
	key, err := admission.LoadKey(keysDir(from), keyOwner)
	if err != nil {
		return err
	}
	return admission.SaveKey(keysDir(to), keyOwner, key)
}

// Join enters the mesh of an invitation's token. opts are Given.Mesh, where the
// node is to have one.
func Join(ctx context.Context, data, name, token string, opts ...mesh.Option) (*Founded, error) {
	dir := keysDir(data)
	if _, err := os.Stat(filepath.Join(dir, fileBundle)); err == nil {
		return nil, fmt.Errorf("%s: %w", data, ErrHasIdentity)
	}
	invitation, err := admission.ParseToken(token)
	if err != nil {
		return nil, err
	}
	_, statErr := os.Stat(filepath.Join(dir, keyNode))
	key, err := admission.LoadOrCreateKey(dir, keyNode)
	if err != nil {
		return nil, err
	}
	joined, err := mesh.Join(ctx, key, invitation, name, len(invitation.Addrs) == 0, opts...)
	if err != nil {
		if errors.Is(statErr, fs.ErrNotExist) {
			forgetKey(data, dir)
		}
		return nil, err
	}
	f, err := settle(dir, key, joined.Bundle, name, &home{Contacts: joined.Peers})
	if err == nil {
		f.Apart = joined.Apart
	}
	return f, err
}

// forgetKey removes the key of a node that was not let in, and its folders as
// far as they are empty.
func forgetKey(data, dir string) {
	for _, name := range []string{filepath.Join(dir, keyNode), dir, data} {
		if os.Remove(name) != nil {
			return
		}
	}
}

// settle writes what makes a folder a node's; the bundle last, since it is what
// says that all is there.
func settle(dir string, key ed25519.PrivateKey, bundle admission.Bundle, name string, h *home) (*Founded, error) {
	if _, err := admission.LoadOrCreateKey(dir, keyOwner); err != nil {
		return nil, err
	}
	if err := saveHome(dir, h); err != nil {
		return nil, err
	}
	if err := admission.WriteFile(dir, fileBundle, bundle.Encode()); err != nil {
		return nil, err
	}
	return &Founded{Mesh: bundle.Mesh(), Node: idOf(key), Name: name}, nil
}

func saveHome(dir string, h *home) error {
	return admission.WriteFile(dir, fileHome, wire.MustMarshal(h))
}

func idOf(key ed25519.PrivateKey) workload.PeerID {
	return workload.PeerIDOf(key.Public().(ed25519.PublicKey))
}

// loadIdentity reads who the node of a data folder is.
func loadIdentity(data string) (*identity, *home, error) {
	dir := keysDir(data)
	raw, err := os.ReadFile(filepath.Join(dir, fileBundle))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("%s: %w", data, ErrNoIdentity)
	}
	if err != nil {
		return nil, nil, err
	}
	id, h, err := readIdentity(dir, raw)
	if no := syscall.Errno(0); errors.As(err, &no) {
		return nil, nil, fmt.Errorf("%s: %w", dir, err) // the disk, not what stands on it
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w: %w", dir, ErrDamaged, err)
	}
	return id, h, nil
}

func readIdentity(dir string, raw []byte) (id *identity, h *home, err error) {
	id = &identity{dir: dir}
	if id.bundle, err = admission.DecodeBundle(raw); err != nil {
		return nil, nil, err
	}
	switched, err := id.nodeKey()
	if err != nil {
		return nil, nil, err
	}
	if switched {
		if err := id.tidyKeys(); err != nil {
			return nil, nil, err
		}
	}
	if id.owner, err = admission.LoadKey(dir, keyOwner); err != nil {
		return nil, nil, err
	}
	id.trust, err = admission.NewTrust(id.bundle.Root, admission.FileStore{Dir: dir, Name: fileTrust})
	if err != nil {
		return nil, nil, err
	}
	if err := id.loadIssuer(); err != nil {
		return nil, nil, err
	}
	h, err = loadHome(dir)
	return id, h, err
}

// loadIssuer makes the node an issuer when it holds the key of an operator that
// was not removed. A node of an operator renews its own certificate as it starts.
func (id *identity) loadIssuer() error {
	raw, err := os.ReadFile(filepath.Join(id.dir, fileOperator))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var cert workload.Signed
	if err := wire.Unmarshal(raw, &cert); err != nil {
		return err
	}
	issuer, err := id.openIssuer(cert)
	if err != nil || id.trust.Leaving(issuer.ID()) {
		return err
	}
	id.issuer.Store(issuer)
	name, err := id.bundle.NodeName()
	if err != nil {
		return err
	}
	now := time.Now()
	// When the last certificate was made tells how long operators were away.
	_, _ = id.trust.Verify(id.bundle, idOf(id.key), now)
	fresh, err := issuer.Certify(idOf(id.key), name, now)
	if err != nil {
		return err
	}
	id.bundle = fresh
	return admission.WriteFile(id.dir, fileBundle, fresh.Encode())
}

// openIssuer opens the issuer of an operator's certificate, with whichever of
// the two keys it names.
func (id *identity) openIssuer(cert workload.Signed) (*admission.Issuer, error) {
	var last error
	for _, name := range []string{keyOperator, keyOperator2} {
		key, err := admission.LoadKey(id.dir, name)
		if err == nil {
			var issuer *admission.Issuer
			issuer, err = admission.NewIssuer(idOf(id.key), id.bundle.Root, cert, key, admission.FileStore{Dir: id.dir, Name: fileInvites})
			if err == nil {
				issuer.Heed(id.trust)
				return issuer, nil
			}
		}
		if last == nil || !errors.Is(err, fs.ErrNotExist) {
			last = err
		}
	}
	return nil, last
}

func loadHome(dir string) (*home, error) {
	raw, err := os.ReadFile(filepath.Join(dir, fileHome))
	if err != nil {
		return nil, err
	}
	var h home
	return &h, wire.Unmarshal(raw, &h)
}
