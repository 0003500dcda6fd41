package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
)

// attachProtocol is what an attach upgrades the connection to.
const attachProtocol = "perrin-attach/1"

// attach upgrades the connection, streams until the backend's Attach returns
// and says how it ended in the last frame. The backend's context ends when the
// client goes away.
func (s *Server) attach(w http.ResponseWriter, r *http.Request) error {
	id, err := pathID(r)
	if err != nil {
		return err
	}
	task, err := queryUint(r, "task", 32, 0)
	if err != nil {
		return err
	}
	if r.Header.Get("Upgrade") != attachProtocol {
		return Errorf(Invalid, "attach: want the header Upgrade: %s", attachProtocol)
	}
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if _, err := io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+attachProtocol+"\r\n\r\n"); err != nil {
		return nil
	}
	peer := &frameConn{w: conn}
	q := r.URL.Query()
	opt := AttachOptions{
		Task: uint32(task), Follow: q.Get("follow") == "1",
		Stdout: frameWriter{peer, frameStdout}, Stderr: frameWriter{peer, frameStderr},
	}
	in := newInbox(peer.credit)
	if q.Get("stdin") == "1" {
		opt.Stdin = in
	}
	go func() {
		defer cancel()
		in.close(receiveInput(buf.Reader, in))
	}()
	err = s.backend.Attach(ctx, id, opt)
	in.close(io.ErrClosedPipe)
	peer.finish(err)
	return nil
}

// receiveInput reads the client's frames until it goes away or breaks a rule,
// and returns why.
func receiveInput(r *bufio.Reader, in *inbox) error {
	payload := make([]byte, maxFrame)
	for {
		kind, p, err := readFrame(r, payload)
		switch {
		case errors.Is(err, io.EOF):
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		case kind == frameStdin:
			if err := in.push(p); err != nil {
				return err
			}
		case kind == frameEOF:
			in.close(io.EOF)
		default:
			return errFrame
		}
	}
}

// finish sends the last frame. A client that is gone does not read it.
func (c *frameConn) finish(err error) {
	if err == nil {
		_ = c.write(frameEnd, nil)
		return
	}
	e := AsError(err)
	e.Message = truncate(e.Message, maxFrame/4)
	e.Hint = truncate(e.Hint, maxFrame/4)
	body, err := json.Marshal(e)
	if err != nil || len(body) > maxFrame {
		body = []byte(`{"kind":"internal","error":"attach failed"}`)
	}
	_ = c.write(frameError, body)
}

func truncate(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}
