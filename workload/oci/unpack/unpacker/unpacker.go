// Package unpacker is the process that unpacks one image, and what a node says to
// it and hears from it. It lives in a sandbox of its own, with limits of its own
// and nothing to see but the folder that it fills: what an archive makes of it
// happens to no one else.
//
// The node sends a Job on the worker's socket, and then each layer, the lowest
// first, as an open file that rides with one byte. The worker answers with its
// exit code and a few words on its output, which are as untrusted as the image.
package unpacker

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"unicode"

	"golang.org/x/sys/unix"

	"github.com/perrin-mesh/perrin/workload/oci/image"
	"github.com/perrin-mesh/perrin/workload/oci/unpack"
)

// Role is the worker's first argument where it takes the shim's place.
const Role = "unpack"

// Descriptors of the worker: what it is executed from, and the node's socket.
const (
	ExecFD   = 3
	SocketFD = 4
)

// OutPath is the folder that the worker fills.
const OutPath = "/out"

// Job is what to unpack, and how much of it there may be.
type Job struct {
	Limits  unpack.Limits
	Layers  []image.Layer
	Folders []string          // that the root must have
	Files   map[string]string // that it must have, by name, with what is in them where the image has none
}

// Exit codes.
const (
	codeDone    = 0
	codeInvalid = 10 // the image is to blame; the output says for what
	codeFailed  = 11 // the machine is; the output says for what
	codeAlone   = 12 // the node is gone, or cannot bring a layer
)

// ErrLeft is returned for a worker that was left without a layer that it needs.
var ErrLeft = errors.New("the layers of the image ended early")

// maxJob bounds a job in bytes: 128 layers and some names.
const maxJob = 128 << 10

// Send says to the worker at sock, a socket that keeps packets apart, what to do.
func (j *Job) Send(sock io.Writer) error {
	raw, err := json.Marshal(j)
	if err != nil {
		return err
	}
	if len(raw) > maxJob {
		return fmt.Errorf("a job of %d bytes, at most %d", len(raw), maxJob)
	}
	_, err = sock.Write(raw)
	return err
}

// Serve is the life of a worker. It returns the exit code of its process.
func Serve() int {
	job, err := receiveJob()
	if err != nil {
		fmt.Fprintln(os.Stderr, "perrin-unpack: started by a Perrin node, not by hand")
		return codeAlone
	}
	leftOut, err := job.unpack()
	switch {
	case err == nil:
		fmt.Println(leftOut)
		return codeDone
	case errors.Is(err, ErrLeft):
		return codeAlone
	case errors.Is(err, image.ErrInvalid):
		fmt.Print(strings.TrimPrefix(err.Error(), image.ErrInvalid.Error()+": "))
		return codeInvalid
	}
	fmt.Print(err)
	return codeFailed
}

func receiveJob() (*Job, error) {
	buf := make([]byte, maxJob)
	n, err := retry(func() (int, error) { return unix.Read(SocketFD, buf) })
	if err != nil {
		return nil, err
	}
	job := &Job{}
	return job, json.Unmarshal(buf[:n], job)
}

// unpack fills the folder and returns how many devices and the like it left out.
func (j *Job) unpack() (leftOut int, err error) {
	root, err := os.OpenRoot(OutPath)
	if err != nil {
		return 0, err
	}
	defer root.Close()
	u := unpack.New(root, j.Limits)
	defer u.Close()
	for _, l := range j.Layers {
		if err := nextLayer(u, l); err != nil {
			return 0, err
		}
	}
	return u.LeftOut(), u.Fit(j.Folders, j.Files)
}

func nextLayer(u *unpack.Unpacker, l image.Layer) error {
	f, err := receiveFile()
	if err != nil {
		return err
	}
	defer f.Close()
	return u.Layer(f, l)
}

// receiveFile waits for the next layer.
func receiveFile() (*os.File, error) {
	body, control := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	var n, cn int
	_, err := retry(func() (m int, err error) {
		n, cn, _, _, err = unix.Recvmsg(SocketFD, body, control, unix.MSG_CMSG_CLOEXEC)
		return n, err
	})
	if err != nil || n == 0 {
		return nil, fmt.Errorf("%w (%v)", ErrLeft, err)
	}
	messages, err := unix.ParseSocketControlMessage(control[:cn])
	if err != nil || len(messages) != 1 {
		return nil, fmt.Errorf("%w: no file came (%v)", ErrLeft, err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, fmt.Errorf("%w: no file came (%v)", ErrLeft, err)
	}
	return os.NewFile(uintptr(fds[0]), "layer"), nil
}

func retry(call func() (int, error)) (int, error) {
	for {
		if n, err := call(); !errors.Is(err, syscall.EINTR) {
			return n, err
		}
	}
}

// Result says what a worker's end means: how many entries it left out, or an
// error, which wraps image.ErrInvalid when the image is to blame. What the worker
// said is cleaned and cut.
func Result(said string, code int) (leftOut int, err error) {
	switch code {
	case codeDone:
		if _, err := fmt.Sscan(said, &leftOut); err != nil || leftOut < 0 {
			return 0, fmt.Errorf("the unpacking process answered %.80q", said)
		}
		return leftOut, nil
	case codeInvalid:
		return 0, fmt.Errorf("%w: %s", image.ErrInvalid, clean(said))
	case codeFailed:
		return 0, errors.New(clean(said))
	case codeAlone:
		return 0, ErrLeft
	}
	return 0, fmt.Errorf("the unpacking process exited with %d: %.400q", code, said)
}

// maxWords bounds what is passed on of a worker's words, in bytes.
const maxWords = 1000

func clean(said string) string {
	said = strings.ToValidUTF8(said[:min(len(said), maxWords)], "")
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, said)
}
