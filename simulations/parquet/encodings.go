package parquet

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
)

// Codecs and encodings of the format.
const (
	packNone, packSnappy, packGzip, packZstd                 = 0, 1, 2, 6
	encPlain, encPlainDictionary, encDelta, encRLEDictionary = 0, 2, 5, 8
)

// unpacker unpacks pages.
type unpacker struct{ zstd *zstd.Decoder }

func (u *unpacker) close() {
	if u.zstd != nil {
		u.zstd.Close()
	}
}

// unzip unpacks at most most bytes of zstd.
func (u *unpacker) unzip(in []byte, most int64) (_ []byte, err error) {
	if u.zstd == nil {
		if u.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxPage)); err != nil {
			return nil, err
		}
	}
	if err := u.zstd.Reset(bytes.NewReader(in)); err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(u.zstd, most))
}

// unpack unpacks a page into as many bytes as its header says.
func (u *unpacker) unpack(codec int64, in []byte, size int64) (out []byte, err error) {
	switch codec {
	case packNone:
		out = in
	case packSnappy:
		if n, err := snappy.DecodedLen(in); err != nil || int64(n) != size {
			return nil, errors.Join(errCut, err)
		}
		out, err = snappy.Decode(nil, in)
	case packGzip:
		var r *gzip.Reader
		if r, err = gzip.NewReader(bytes.NewReader(in)); err == nil {
			out, err = io.ReadAll(io.LimitReader(r, size+1))
		}
	case packZstd:
		out, err = u.unzip(in, size+1)
	default:
		return nil, fmt.Errorf("it is packed by codec %d; Snappy, gzip and zstd are read", codec)
	}
	if err == nil && int64(len(out)) != size {
		err = fmt.Errorf("a page unpacks to other than its %d bytes", size)
	}
	return out, err
}

// decode reads n values.
func (p *pages) decode(encoding, n int64, in []byte) ([]float64, error) {
	switch encoding {
	case encPlain:
		return p.plain(in, n)
	case encDelta:
		return deltas(in, n)
	case encPlainDictionary, encRLEDictionary:
		if n == 0 {
			return nil, nil
		}
		if len(in) == 0 || in[0] > 32 {
			return nil, errCut
		}
		at, err := hybrid(in[1:], int(in[0]), n)
		if err != nil {
			return nil, err
		}
		out := make([]float64, n)
		for i, k := range at {
			if int(k) >= len(p.dictionary) {
				return nil, errors.New("a value is not in the dictionary")
			}
			out[i] = p.dictionary[k]
		}
		return out, nil
	}
	return nil, fmt.Errorf("it is in encoding %d; plain, dictionaries and deltas are read", encoding)
}

// plain reads n numbers as they are.
func (p *pages) plain(in []byte, n int64) ([]float64, error) {
	width := int64(8)
	if p.kind == typeInt32 || p.kind == typeFloat {
		width = 4
	}
	if n < 0 || n > int64(len(in))/width {
		return nil, errCut
	}
	out := make([]float64, n)
	for i := range out {
		b := in[int64(i)*width:]
		switch p.kind {
		case typeInt32:
			out[i] = float64(int32(binary.LittleEndian.Uint32(b)))
		case typeFloat:
			out[i] = float64(math.Float32frombits(binary.LittleEndian.Uint32(b)))
		case typeInt64:
			out[i] = float64(int64(binary.LittleEndian.Uint64(b)))
		default:
			out[i] = math.Float64frombits(binary.LittleEndian.Uint64(b))
		}
	}
	return out, nil
}

// hybrid reads n numbers of so many bits, at most 32, in runs of one value and in
// groups of eight that are packed.
func hybrid(in []byte, width int, n int64) ([]uint32, error) {
	out := make([]uint32, 0, min(n, 1<<20))
	for int64(len(out)) < n {
		head, k := binary.Uvarint(in)
		if k <= 0 {
			return nil, errCut
		}
		in = in[k:]
		left := uint64(n) - uint64(len(out))
		if head&1 == 0 { // a run
			size := (width + 7) / 8
			if head>>1 == 0 || len(in) < size {
				return nil, errCut
			}
			var v uint32
			for i := range size {
				v |= uint32(in[i]) << (8 * i)
			}
			in = in[size:]
			if uint64(v)>>width != 0 {
				return nil, fmt.Errorf("%d, where %d bits are a number", v, width)
			}
			for range min(head>>1, left) {
				out = append(out, v)
			}
			continue
		}
		groups := head >> 1
		if groups == 0 || width > 0 && groups > uint64(len(in))/uint64(width)+1 {
			return nil, errCut
		}
		take := min(groups*8, left)
		if uint64(len(in)) < (take*uint64(width)+7)/8 {
			return nil, errCut
		}
		for i := range take {
			out = append(out, uint32(packedAt(in, int(i)*width, width)))
		}
		in = in[min(groups*uint64(width), uint64(len(in))):]
	}
	return out, nil
}

// packedAt is the number of so many bits, at most 64, that begins at a bit; bits are
// packed from the lowest of each byte.
func packedAt(in []byte, bit, width int) (v uint64) {
	for got := 0; got < width; {
		b := uint64(in[(bit+got)/8]) >> ((bit + got) % 8)
		v |= b << got
		got += 8 - (bit+got)%8
	}
	if width < 64 {
		v &= 1<<width - 1
	}
	return v
}

// deltas reads n whole numbers of blocks: the least difference to the one before, and
// what each is above it, packed in as few bits as a part of the block needs.
func deltas(in []byte, n int64) ([]float64, error) {
	t := thrift{in: in}
	size, err := t.uvarint()
	parts, err2 := t.uvarint()
	count, err3 := t.uvarint()
	last, err4 := t.varint()
	if err := errors.Join(err, err2, err3, err4); err != nil {
		return nil, errCut
	}
	if size == 0 || size > 1<<20 || parts == 0 || parts > size || size%parts != 0 || (size/parts)%8 != 0 || count != uint64(n) {
		return nil, errors.New("its deltas are not as the format has them")
	}
	out := make([]float64, 0, min(n, 1<<20))
	if n > 0 {
		out = append(out, float64(last))
	}
	each := int(size / parts)
	for int64(len(out)) < n {
		least, err := t.varint()
		if err != nil {
			return nil, err
		}
		widths, err := t.take(parts)
		if err != nil {
			return nil, err
		}
		for _, w := range widths {
			if int64(len(out)) >= n {
				break
			}
			if w > 64 {
				return nil, errCut
			}
			body, err := t.take(uint64(each / 8 * int(w)))
			if err != nil {
				return nil, err
			}
			for i := range min(each, int(n)-len(out)) {
				last += least + int64(packedAt(body, i*int(w), int(w)))
				out = append(out, float64(last))
			}
		}
	}
	return out, nil
}
