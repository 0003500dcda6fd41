package api

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"

	"github.com/perrin-mesh/perrin/workload"
)

// PutBlob implements Backend. An error of r is returned as it is.
func (c *Client) PutBlob(ctx context.Context, r io.Reader) (workload.Ref, error) {
	return c.put(ctx, nil, r)
}

// PutSealed implements Backend. An error of r is returned as it is.
func (c *Client) PutSealed(ctx context.Context, salt []byte, r io.Reader) (workload.Ref, error) {
	return c.put(ctx, url.Values{"seal": {hex.EncodeToString(salt)}}, r)
}

// OpenOutput implements Backend.
func (c *Client) OpenOutput(ctx context.Context, id workload.ID, ref workload.Ref) (io.ReadCloser, error) {
	query := url.Values{"size": {strconv.FormatInt(ref.Size, 10)}}
	resp, err := c.do(ctx, http.MethodGet, of(id, "/blobs/"+ref.Digest.String()), query, nil, nil)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

func (c *Client) put(ctx context.Context, query url.Values, r io.Reader) (workload.Ref, error) {
	var ref workload.Ref
	src := &source{r: r}
	resp, err := c.do(ctx, http.MethodPost, "/v1/blobs", query, src, nil)
	if src.err != nil {
		if err == nil {
			resp.Body.Close()
		}
		return ref, src.err
	}
	if err != nil {
		return ref, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxErrorAnswer)).Decode(&ref); err != nil {
		return ref, c.lost(ctx, err)
	}
	return ref, nil
}

// source remembers the error of a reader, which net/http buries.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// OpenBlob implements Backend. The blob is streamed; seeking asks again from
// the new place.
func (c *Client) OpenBlob(ctx context.Context, ref workload.Ref) (io.ReadSeekCloser, error) {
	b := &blobReader{c: c, ctx: ctx, ref: ref}
	if err := b.open(0); err != nil {
		return nil, err
	}
	return b, nil
}

// blobReader reads a blob from pos; body is nil between a seek and a read.
type blobReader struct {
	c    *Client
	ctx  context.Context
	ref  workload.Ref
	size int64
	pos  int64
	body io.ReadCloser
}

func (b *blobReader) open(from int64) error {
	header := http.Header{}
	if from > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", from))
	}
	query := url.Values{"size": {strconv.FormatInt(b.ref.Size, 10)}}
	resp, err := b.c.do(b.ctx, http.MethodGet, "/v1/blobs/"+b.ref.Digest.String(), query, nil, header)
	if err != nil {
		return err
	}
	if from == 0 {
		b.size = resp.ContentLength
	}
	b.pos, b.body = from, resp.Body
	return nil
}

// Read implements io.Reader.
func (b *blobReader) Read(p []byte) (int, error) {
	if b.pos >= b.size {
		return 0, io.EOF
	}
	if b.body == nil {
		if err := b.open(b.pos); err != nil {
			return 0, err
		}
	}
	n, err := b.body.Read(p)
	b.pos += int64(n)
	if err != nil && b.pos < b.size {
		return n, b.c.lost(b.ctx, io.ErrUnexpectedEOF)
	}
	return n, err
}

// Seek implements io.Seeker.
func (b *blobReader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += b.pos
	case io.SeekEnd:
		offset += b.size
	}
	if offset < 0 {
		return 0, errors.New("seek before the start of a blob")
	}
	if offset != b.pos {
		b.pos = offset
		return offset, b.Close()
	}
	return offset, nil
}

// Close implements io.Closer.
func (b *blobReader) Close() error {
	if b.body == nil {
		return nil
	}
	body := b.body
	b.body = nil
	return body.Close()
}

// Attach implements Backend. When it returns, a Read of opt.Stdin may still be
// under way; what it reads is lost.
func (c *Client) Attach(ctx context.Context, id workload.ID, opt AttachOptions) error {
	conn, err := c.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	r, err := upgrade(ctx, conn, of(id, "/attach")+"?"+url.Values{
		"task": {strconv.FormatUint(uint64(opt.Task), 10)}, "follow": {flag(opt.Follow)}, "stdin": {flag(opt.Stdin != nil)},
	}.Encode())
	if err != nil {
		return c.attachError(ctx, err)
	}
	credit := newAllowance()
	defer credit.end()
	if opt.Stdin != nil {
		go sendInput(&frameConn{w: conn}, opt.Stdin, credit)
	}
	return c.attachError(ctx, receiveOutput(r, opt, credit))
}

func (c *Client) attachError(ctx context.Context, err error) error {
	var own *Error
	var local localError
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &local):
		return local.error
	case errors.As(err, &own):
		return own
	}
	return c.lost(ctx, err)
}

// localError is a failure to write what arrived, as opposed to one of the daemon.
type localError struct{ error }

func upgrade(ctx context.Context, conn net.Conn, target string) (*bufio.Reader, error) {
	_, err := io.WriteString(conn, "POST "+target+" HTTP/1.1\r\nHost: perrin\r\nConnection: Upgrade\r\nUpgrade: "+
		attachProtocol+"\r\n"+tokenLine(ctx)+"Content-Length: 0\r\n\r\n")
	if err != nil {
		return nil, err
	}
	r := bufio.NewReaderSize(conn, maxFrame+frameHeader)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		defer resp.Body.Close()
		return nil, readError(resp)
	}
	return r, nil
}

// sendInput copies stdin within the credit until it ends or the attach does.
func sendInput(peer *frameConn, stdin io.Reader, credit *allowance) {
	buf := make([]byte, maxFrame)
	for {
		allowed := credit.take(len(buf))
		if allowed == 0 {
			return
		}
		n, err := stdin.Read(buf[:allowed])
		credit.add(allowed - n)
		if n > 0 && peer.write(frameStdin, buf[:n]) != nil {
			return
		}
		if err != nil {
			_ = peer.write(frameEOF, nil)
			return
		}
	}
}

func receiveOutput(r *bufio.Reader, opt AttachOptions, credit *allowance) error {
	payload := make([]byte, maxFrame)
	for {
		kind, p, err := readFrame(r, payload)
		if errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		switch kind {
		case frameStdout:
			err = copyOut(opt.Stdout, p)
		case frameStderr:
			err = copyOut(opt.Stderr, p)
		case frameCredit:
			err = takeCredit(credit, p)
		case frameEnd:
			return nil
		case frameError:
			return decodeFrameError(p)
		default:
			return errFrame
		}
		if err != nil {
			return err
		}
	}
}

func copyOut(w io.Writer, p []byte) error {
	if w == nil {
		return nil
	}
	if _, err := w.Write(p); err != nil {
		return localError{err}
	}
	return nil
}

func takeCredit(credit *allowance, p []byte) error {
	if len(p) != 4 {
		return errFrame
	}
	n := binary.BigEndian.Uint32(p)
	if n > initialCredit {
		return errFrame
	}
	credit.add(int(n))
	return nil
}

func decodeFrameError(p []byte) error {
	var e Error
	if err := json.Unmarshal(p, &e); err != nil || e.Kind == "" {
		return errFrame
	}
	return &e
}
