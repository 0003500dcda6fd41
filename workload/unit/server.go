package unit

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// SocketName is the name of the socket that ServeAttempt makes.
const SocketName = "unit.sock"

// Bounds of one attempt's server.
const (
	maxConns      = 16
	maxHeader     = 8 << 10
	headerTimeout = 5 * time.Second
	idleTimeout   = time.Minute
	answerTimeout = 10 * time.Second
	bodyTimeout   = 10 * time.Minute
	closeTimeout  = time.Second
	maxSocketPath = 107 // bytes, unix(7)
)

// DefaultMaxPublish bounds the body of one publish, in bytes.
const DefaultMaxPublish = 1 << 30

// Server answers one attempt.
type Server struct {
	backend    Backend
	maxPublish int64
	log        *slog.Logger
	http       *http.Server
	now        func() time.Time
}

// NewServer returns a server of b. maxPublish bounds the body of one publish
// in bytes; 0 is DefaultMaxPublish.
func NewServer(b Backend, maxPublish int64, logger *slog.Logger) *Server {
	if maxPublish <= 0 {
		maxPublish = DefaultMaxPublish
	}
	s := &Server{backend: b, maxPublish: maxPublish, log: logger, now: time.Now}
	s.http = &http.Server{
		Handler: s, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeader, ErrorLog: log.New(quiet{logger}, "", 0),
	}
	return s
}

// quiet logs what net/http says about connections, which a stranger causes.
type quiet struct{ log *slog.Logger }

func (q quiet) Write(p []byte) (int, error) {
	q.log.Debug("unit: http", "message", fmt.Sprintf("%.200q", p))
	return len(p), nil
}

// Serve accepts connections, at most 16 at once, until Close. It takes l over
// and returns nil after Close.
func (s *Server) Serve(l net.Listener) error {
	err := s.http.Serve(&limited{Listener: l, slots: make(chan struct{}, maxConns), done: make(chan struct{})})
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve the unit: %w", err)
}

// Close ends the server: answers in progress get a second, then every
// connection is closed.
func (s *Server) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if err := s.http.Shutdown(ctx); err != nil {
		return s.http.Close()
	}
	return nil
}

// ServeAttempt serves b on a socket in dir, an existing folder of this attempt
// alone. Anybody who reaches dir may connect: the program runs as a user of
// its own. stop, which may be called twice, ends the server, closes every
// connection at once and removes the socket.
func ServeAttempt(dir string, b Backend, maxPublish int64, log *slog.Logger) (socket string, stop func(), err error) {
	socket = filepath.Join(dir, SocketName)
	l, err := listen(socket)
	if err != nil {
		return "", nil, fmt.Errorf("serve the unit: %w", err)
	}
	s := NewServer(b, maxPublish, log)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Serve(l); err != nil {
			log.Warn("unit: the server ended", "err", err)
		}
	}()
	var once sync.Once
	return socket, func() {
		once.Do(func() {
			s.http.Close()
			<-done
			os.Remove(socket)
		})
	}, nil
}

// listen makes a socket at name, which may be longer than the kernel's limit:
// then it is made through the open folder.
func listen(name string) (net.Listener, error) {
	bind := name
	if len(name) > maxSocketPath {
		dir, err := os.Open(filepath.Dir(name))
		if err != nil {
			return nil, err
		}
		defer dir.Close()
		bind = fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(name))
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: bind, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if err := os.Chmod(name, 0o666); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// limited is a listener that accepts when it has a slot free: what is over the
// limit waits in the kernel's queue.
type limited struct {
	net.Listener
	slots chan struct{}
	done  chan struct{}
	once  sync.Once
}

func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.done:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &conn{Conn: c, release: sync.OnceFunc(func() { <-l.slots })}, nil
}

func (l *limited) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.Listener.Close()
}

type conn struct {
	net.Conn
	release func()
}

func (c *conn) Close() error {
	defer c.release()
	return c.Conn.Close()
}
