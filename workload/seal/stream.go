package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// A sealed stream is a head of headSize bytes (the magic and 16 random bytes),
// then chunks of chunkSize bytes of content and tagSize bytes of tag. The last
// one may be shorter, and is empty only when the content is.
const (
	magic     = "perrinS\x01"
	freshSize = 16
	headSize  = len(magic) + freshSize
	chunkSize = 64 << 10
	tagSize   = 16
	nonceSize = 12
	lastFlag  = 1
)

// ErrSealed is returned when sealed content does not open: it was changed, cut
// off, sealed for something else or with another key.
var ErrSealed = errors.New("sealed content does not open")

// Size returns how many bytes the sealed form of n bytes has.
func Size(n int64) int64 {
	chunks := max((n+chunkSize-1)/chunkSize, 1)
	return int64(headSize) + n + chunks*tagSize
}

// cipherOf derives the cipher of one stream.
func (k *Key) cipherOf(head []byte, context string) (aead cipher.AEAD, err error) {
	err = k.with(func(secret []byte) error {
		own, err := hkdf.Key(sha256.New, secret, head, "perrin/seal/1 stream "+context, KeySize)
		if err != nil {
			return err
		}
		defer clear(own)
		block, err := aes.NewCipher(own)
		if err != nil {
			return err
		}
		aead, err = cipher.NewGCM(block)
		return err
	})
	return aead, err
}

// counter makes the nonces of one stream: 11 bytes of number and the flag.
type counter struct{ next uint64 }

func (c *counter) nonce(last bool) []byte {
	b := make([]byte, nonceSize)
	binary.BigEndian.PutUint64(b[3:11], c.next)
	if last {
		b[11] = lastFlag
	}
	c.next++
	return b
}

// encrypter reads plain content ahead by one byte, to know which chunk is last.
type encrypter struct {
	from  io.Reader
	aead  cipher.AEAD
	count counter
	plain []byte // chunkSize+1
	held  int    // bytes of plain that are read already
	out   []byte // of which a chunk is sealed
	ready []byte // not yet read by the caller
	over  bool
}

// Encrypt returns a reader of the sealed form of from's content. context says
// what it is; Decrypt must be told the same.
func Encrypt(from io.Reader, k *Key, context string) (io.Reader, error) {
	head := make([]byte, headSize)
	copy(head, magic)
	_, _ = rand.Read(head[len(magic):]) // it does not fail
	aead, err := k.cipherOf(head, context)
	if err != nil {
		return nil, err
	}
	return &encrypter{
		from: from, aead: aead, ready: head, plain: make([]byte, chunkSize+1), out: make([]byte, 0, chunkSize+tagSize),
	}, nil
}

// Read implements io.Reader.
func (e *encrypter) Read(p []byte) (int, error) {
	for len(e.ready) == 0 {
		if e.over {
			return 0, io.EOF
		}
		if err := e.chunk(); err != nil {
			return 0, err
		}
	}
	n := copy(p, e.ready)
	e.ready = e.ready[n:]
	return n, nil
}

func (e *encrypter) chunk() error {
	n, err := io.ReadFull(e.from, e.plain[e.held:])
	n += e.held
	e.over = errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
	if err != nil && !e.over {
		return err
	}
	size := min(n, chunkSize)
	e.ready = e.aead.Seal(e.out, e.count.nonce(e.over), e.plain[:size], nil)
	e.held = copy(e.plain, e.plain[size:n])
	return nil
}

// decrypter reads sealed content ahead by one byte too.
type decrypter struct {
	from   io.Reader
	key    *Key
	what   string
	aead   cipher.AEAD // nil before the head is read
	count  counter
	sealed []byte // chunkSize+tagSize+1
	held   int
	plain  []byte // of which a chunk is opened
	ready  []byte
	over   bool
	err    error
}

// Decrypt returns a reader of the content of from, which Encrypt made with the
// same key and context. Its Read gives out no byte that has not been checked,
// and returns an error that wraps ErrSealed when something does not fit; what
// was read before is then the true beginning, and no more than that.
func Decrypt(from io.Reader, k *Key, context string) io.Reader {
	return &decrypter{
		from: from, key: k, what: context, sealed: make([]byte, chunkSize+tagSize+1), plain: make([]byte, 0, chunkSize),
	}
}

// Read implements io.Reader.
func (d *decrypter) Read(p []byte) (int, error) {
	for len(d.ready) == 0 && d.err == nil {
		if d.over {
			return 0, io.EOF
		}
		d.err = d.chunk()
	}
	if d.err != nil {
		return 0, d.err
	}
	n := copy(p, d.ready)
	d.ready = d.ready[n:]
	return n, nil
}

func (d *decrypter) head() error {
	head := make([]byte, headSize)
	if _, err := io.ReadFull(d.from, head); err != nil {
		return cutOff(err)
	}
	if string(head[:len(magic)]) != magic {
		return fmt.Errorf("%w: it is not in the sealed form", ErrSealed)
	}
	var err error
	d.aead, err = d.key.cipherOf(head, d.what)
	return err
}

func cutOff(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it is cut off", ErrSealed)
	}
	return err
}

func (d *decrypter) chunk() error {
	if d.aead == nil {
		if err := d.head(); err != nil {
			return err
		}
	}
	n, err := io.ReadFull(d.from, d.sealed[d.held:])
	n += d.held
	d.over = errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
	if err != nil && !d.over {
		return err
	}
	size := min(n, chunkSize+tagSize)
	if size < tagSize || size == tagSize && d.count.next > 0 {
		return fmt.Errorf("%w: it is cut off", ErrSealed)
	}
	d.ready, err = d.aead.Open(d.plain, d.count.nonce(d.over), d.sealed[:size], nil)
	if err != nil {
		return fmt.Errorf("%w: chunk %d", ErrSealed, d.count.next-1)
	}
	d.held = copy(d.sealed, d.sealed[size:n])
	return nil
}

// Seal returns the sealed form of data.
func (k *Key) Seal(data []byte, context string) ([]byte, error) {
	r, err := Encrypt(bytes.NewReader(data), k, context)
	if err != nil {
		return nil, err
	}
	out := bytes.NewBuffer(make([]byte, 0, Size(int64(len(data)))+bytes.MinRead))
	_, err = out.ReadFrom(r)
	return out.Bytes(), err
}

// Open returns what Seal was given, or an error that wraps ErrSealed.
func (k *Key) Open(sealed []byte, context string) ([]byte, error) {
	return io.ReadAll(Decrypt(bytes.NewReader(sealed), k, context))
}
