package collect

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What the kernel's device is asked (include/uapi/linux/sev-guest.h).
const (
	sevGetReport         = 0xc0205300 // _IOWR('S', 0, struct snp_guest_request_ioctl)
	sevGetExtendedReport = 0xc0205302
	sevCertBytes         = 64 << 10 // room for the host's certificates, a multiple of the page size
	sevAnswer            = 4000
)

type sevRequest struct {
	version  uint8
	request  uint64
	response uint64
	failed   uint64
}

type sevReportRequest struct {
	data     [64]byte
	vmpl     uint32
	reserved [28]byte
}

type sevExtendedRequest struct {
	report    sevReportRequest
	certs     uint64
	certsSize uint32
}

// sevGuest asks the device below root for a report, with the host's
// certificates where it gives some.
func sevGuest(root string) func([64]byte) (report, certs []byte, err error) {
	return func(data [64]byte) (report, certs []byte, err error) {
		f, err := os.OpenFile(filepath.Join(root, SEVDevice), os.O_RDWR, 0)
		if err != nil {
			return nil, nil, err
		}
		defer f.Close()
		certs = make([]byte, sevCertBytes)
		var pin runtime.Pinner
		defer pin.Unpin()
		pin.Pin(&certs[0])
		q := &sevExtendedRequest{report: sevReportRequest{data: data}, certs: uint64(uintptr(unsafe.Pointer(&certs[0]))), certsSize: sevCertBytes}
		if report, err = sevAsk(f, sevGetExtendedReport, unsafe.Pointer(q)); err == nil {
			return report, certs, nil
		}
		report, err = sevAsk(f, sevGetReport, unsafe.Pointer(&q.report))
		return report, nil, err
	}
}

// sevAsk makes one request and reads the report from its answer: a status, the
// report's size, 24 bytes, the report.
func sevAsk(f *os.File, number uintptr, request unsafe.Pointer) ([]byte, error) {
	answer := make([]byte, sevAnswer)
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(&answer[0])
	pin.Pin(request)
	q := sevRequest{version: 1, request: uint64(uintptr(request)), response: uint64(uintptr(unsafe.Pointer(&answer[0])))}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), number, uintptr(unsafe.Pointer(&q))); errno != 0 {
		return nil, fmt.Errorf("%w (the firmware or host says %#x)", errno, q.failed)
	}
	return sevReport(answer)
}

// sevReport reads the firmware's answer.
func sevReport(answer []byte) ([]byte, error) {
	if len(answer) < 32 {
		return nil, fmt.Errorf("an answer of %d bytes", len(answer))
	}
	status, size := binary.LittleEndian.Uint32(answer), uint64(binary.LittleEndian.Uint32(answer[4:]))
	if status != 0 || 32+size > uint64(len(answer)) {
		return nil, fmt.Errorf("the firmware answers status %#x and %d bytes", status, size)
	}
	return answer[32 : 32+size], nil
}
