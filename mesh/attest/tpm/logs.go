package tpm

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf16"
)

// reader reads little-endian fields; after the first that is not there, ok is
// false and all that is read is zero.
type reader struct {
	b  []byte
	ok bool
}

func (r *reader) take(n uint32) []byte {
	if !r.ok || uint64(n) > uint64(len(r.b)) {
		r.ok = false
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) u8() uint8 {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if b := r.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

// Bounds of the logs.
const (
	maxEvents     = 65_536
	maxAlgorithms = 8
)

// Event types (PC Client Firmware Profile, "Events").
const (
	evNoAction             = 0x00000003
	evEFIVariableDriverCfg = 0x80000001
)

// boot is what a boot log comes to.
type boot struct {
	pcrs   [24][sha256.Size]byte
	events int
	secure *bool // Secure Boot, if the firmware said before it began to boot
	booted bool  // the firmware has begun: what PCR 7 gets from then on, anybody may have said
}

// globalVariable is EFI_GLOBAL_VARIABLE (UEFI specification 2.10, 3.3), under which
// alone the firmware's SecureBoot stands.
var globalVariable = []byte{0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c}

var errBootLog = errors.New("the boot log is not a well-formed crypto-agile log")

// replayBoot computes the registers that a TCG2 crypto-agile log describes.
func replayBoot(log []byte) (*boot, error) {
	r := &reader{b: log, ok: true}
	r.u32() // PCR
	kind := r.u32()
	r.take(20)
	sizes, err := parseSpecID(r.take(r.u32()))
	if err != nil || !r.ok || kind != evNoAction {
		return nil, errors.Join(errBootLog, err)
	}
	b := &boot{}
	for len(r.b) > 0 {
		if b.events++; b.events > maxEvents {
			return nil, fmt.Errorf("the boot log has more than %d events", maxEvents)
		}
		if !b.event(r, sizes) {
			return nil, fmt.Errorf("%w: event %d", errBootLog, b.events)
		}
	}
	return b, nil
}

// parseSpecID reads the sizes of the digests from the log's first event.
func parseSpecID(event []byte) (map[uint16]uint32, error) {
	r := &reader{b: event, ok: true}
	if !bytes.Equal(r.take(16), []byte("Spec ID Event03\x00")) {
		return nil, errors.New("its first event is no Spec ID Event03")
	}
	r.take(8) // class, versions, size of UINTN
	n := r.u32()
	if n > maxAlgorithms {
		return nil, fmt.Errorf("%d algorithms, at most %d", n, maxAlgorithms)
	}
	sizes := map[uint16]uint32{}
	for range n {
		alg := r.u16()
		sizes[alg] = uint32(r.u16())
	}
	r.take(uint32(r.u8()))
	if !r.ok || sizes[algSHA256] != sha256.Size {
		return nil, errors.New("it has no SHA-256 digests")
	}
	return sizes, nil
}

// event reads one TCG_PCR_EVENT2 and extends its register.
func (b *boot) event(r *reader, sizes map[uint16]uint32) bool {
	pcr, kind, n := r.u32(), r.u32(), r.u32()
	if pcr > 23 || n > maxAlgorithms {
		return false
	}
	var digest []byte
	for range n {
		alg := r.u16()
		size, known := sizes[alg]
		if !known {
			return false
		}
		if d := r.take(size); alg == algSHA256 {
			digest = d
		}
	}
	data := r.take(r.u32())
	if !r.ok {
		return false
	}
	if kind == evNoAction {
		b.locality(pcr, data)
		return true
	}
	if digest == nil {
		return false
	}
	extend(&b.pcrs[pcr], digest)
	if pcr == 7 {
		b.policy(kind, digest, data)
	}
	return true
}

// policy reads what the firmware says of Secure Boot. It measures that before the
// separator, which ends its own part of PCR 7 (PC Client Firmware Profile, 3.3.4.8);
// later events are as good as whoever has root. What an event says is worth
// something only if it is what was measured, and what was said first counts. The
// separator is known by its digest: an event's type is not measured.
func (b *boot) policy(kind uint32, digest, data []byte) {
	sum := sha256.Sum256(data)
	switch {
	case isSeparator(digest):
		b.booted = true
	case kind == evEFIVariableDriverCfg && !b.booted && b.secure == nil && bytes.Equal(sum[:], digest):
		b.variable(data)
	}
}

// isSeparator knows the three events that a firmware ends its part with: all is
// well (two ways), or an error (PC Client Firmware Profile, 3.3.2.2).
func isSeparator(digest []byte) bool {
	for _, value := range []uint32{0, 0xffffffff, 1} {
		sum := sha256.Sum256(binary.LittleEndian.AppendUint32(nil, value))
		if bytes.Equal(sum[:], digest) {
			return true
		}
	}
	return false
}

// locality starts PCR 0 at the locality that the firmware began in.
func (b *boot) locality(pcr uint32, data []byte) {
	const signature = "StartupLocality\x00"
	if pcr == 0 && len(data) == len(signature)+1 && string(data[:len(signature)]) == signature && b.pcrs[0] == [32]byte{} {
		b.pcrs[0][31] = data[len(signature)]
	}
}

// variable looks for the EFI variable SecureBoot in a UEFI_VARIABLE_DATA.
func (b *boot) variable(data []byte) {
	r := &reader{b: data, ok: true}
	if !bytes.Equal(r.take(16), globalVariable) {
		return
	}
	units, high := r.u32(), r.u32()
	size, higher := r.u32(), r.u32()
	if units > 64 || size > 64 || high != 0 || higher != 0 {
		return
	}
	name := make([]uint16, 0, units)
	for range units {
		name = append(name, r.u16())
	}
	value := r.take(size)
	if r.ok && string(utf16.Decode(name)) == "SecureBoot" {
		on := len(value) == 1 && value[0] == 1
		b.secure = &on
	}
}

func extend(pcr *[sha256.Size]byte, digest []byte) {
	*pcr = sha256.Sum256(append(pcr[:], digest...))
}
