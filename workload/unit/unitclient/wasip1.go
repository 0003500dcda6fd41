//go:build wasip1

package unitclient

import (
	"context"
	"fmt"
	"syscall"
	"time"
	"unsafe"

	"github.com/perrin-mesh/perrin/workload/unit/unitwire"
)

// firstBuffer holds every answer but a long list of inputs.
const firstBuffer = 64 << 10

//go:wasmimport perrin call
func hostCall(request unsafe.Pointer, requestLen int32, response unsafe.Pointer, responseCap int32) int32

// New returns a client of the node that runs this program.
func New() (*Client, error) {
	return &Client{exchange: exchange}, nil
}

// exchange asks again with a larger buffer when the answer does not fit: that
// happens to none but requests that change nothing.
func exchange(ctx context.Context, request []byte, _ time.Duration) ([]byte, error) {
	size := firstBuffer
	for range 3 {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		buf := make([]byte, size)
		n := int(hostCall(unsafe.Pointer(&request[0]), int32(len(request)), unsafe.Pointer(&buf[0]), int32(size)))
		switch {
		case n >= 0 && n <= size:
			return buf[:n], nil
		case n > -unitwire.NeedMin:
			return nil, fmt.Errorf("perrin.call: %w", syscall.Errno(-n))
		case -n > unitwire.MaxResponse+16:
			return nil, fmt.Errorf("perrin.call: an answer of %d bytes", -n)
		}
		size = -n
	}
	return nil, fmt.Errorf("perrin.call: the answer grows from call to call")
}
