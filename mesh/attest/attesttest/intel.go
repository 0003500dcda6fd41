package attesttest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"testing"
	"time"
)

// Intel is a made-up machine with SGX and TDX, with a maker of its own, which no
// production code takes for Intel.
type Intel struct {
	t                 testing.TB
	Root, CA          *Authority
	Key, Quoting, TCB *ecdsa.PrivateKey // of the machine, of the quoting enclave, of who signs TCB information
	Cert, TCBCert     *x509.Certificate
	SVN               [16]int
	PPID              []byte
}

// NewIntel makes a machine.
func NewIntel(t testing.TB) *Intel {
	m := &Intel{t: t, Root: NewAuthority(t, "SGX Root of Test", nil), Key: NewKey(t, elliptic.P256()), Quoting: NewKey(t, elliptic.P256()), TCB: NewKey(t, elliptic.P256()), PPID: make([]byte, 16)}
	m.CA = NewAuthority(t, "PCK CA of Test", m.Root)
	_, _ = rand.Read(m.PPID)
	for i := range m.SVN {
		m.SVN[i] = 5
	}
	m.Cert = m.Endorse("50806f000000")
	m.TCBCert = m.Root.Sign(&x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "TCB Signing of Test"}, NotBefore: Epoch, NotAfter: Epoch.AddDate(7, 0, 0)}, &m.TCB.PublicKey)
	return m
}

type attribute struct {
	ID    asn1.ObjectIdentifier
	Value any
}

// Endorse makes a certificate of the machine's key, as Intel does.
func (m *Intel) Endorse(fmspc string) *x509.Certificate {
	id := func(tail ...int) asn1.ObjectIdentifier {
		return append(asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1}, tail...)
	}
	kind, err := hex.DecodeString(fmspc)
	if err != nil {
		m.t.Fatal(err)
	}
	var firmware []attribute
	for i, v := range m.SVN {
		firmware = append(firmware, attribute{id(2, i+1), v})
	}
	firmware = append(firmware, attribute{id(2, 17), 11}, attribute{id(2, 18), make([]byte, 16)})
	der := m.marshal([]attribute{{id(1), m.PPID}, {id(2), asn1.RawValue{FullBytes: m.marshal(firmware)}}, {id(3), []byte{0, 0}}, {id(4), kind}, {id(5), asn1.Enumerated(1)}})
	return m.CA.Sign(&x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "PCK of Test"}, NotBefore: Epoch, NotAfter: Epoch.AddDate(7, 0, 0),
		ExtraExtensions: []pkix.Extension{{Id: id(), Value: der}}}, &m.Key.PublicKey)
}

// marshal writes a sequence of attributes; encoding/asn1 knows no interface in a list.
func (m *Intel) marshal(list []attribute) []byte {
	var body []byte
	for _, a := range list {
		name, err := asn1.Marshal(a.ID)
		if err != nil {
			m.t.Fatal(err)
		}
		value, err := asn1.Marshal(a.Value)
		if err != nil {
			m.t.Fatal(err)
		}
		pair, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: append(name, value...)})
		if err != nil {
			m.t.Fatal(err)
		}
		body = append(body, pair...)
	}
	out, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: body})
	if err != nil {
		m.t.Fatal(err)
	}
	return out
}

// PEM writes certificates one after another.
func PEM(certs ...*x509.Certificate) (out []byte) {
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

func (m *Intel) sign(key *ecdsa.PrivateKey, b []byte) []byte {
	digest := sha256.Sum256(b)
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		m.t.Fatal(err)
	}
	return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
}

// qeSigner is who signs a quoting enclave, as the made-up identity has it.
var qeSigner = sha256.Sum256([]byte("signer of quoting enclaves"))

// Parts of a quote that a test may change before they are signed.
type Parts struct {
	Version       uint16 // 3 is of SGX, 4 and 5 of TDX
	Header, Body  []byte
	QE, Auth      []byte
	BodyKind      uint16 // of version 5: 2 or 3
	Chain         []byte
	QuoteKey, Tag *ecdsa.PrivateKey // who signs the quote, and the quoting enclave
}

// QuoteOf makes a quote of a version; change may alter it before it is signed.
func (m *Intel) QuoteOf(version uint16, data [64]byte, change func(*Parts)) []byte {
	p := &Parts{Version: version, Header: make([]byte, 48), QE: make([]byte, 384), Auth: []byte("some data of the enclave"), BodyKind: 3, Chain: PEM(m.Cert, m.CA.Cert, m.Root.Cert), QuoteKey: m.Quoting, Tag: m.Key}
	binary.LittleEndian.PutUint16(p.Header, version)
	p.Header[2] = 2
	copy(p.Header[12:], []byte{0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07})
	switch version {
	case 3:
		p.Body = make([]byte, 384)
		p.Body[48], p.Body[64], p.Body[128], p.Body[256], p.Body[258] = 5, 0xe1, 0x51, 7, 2
		copy(p.Body[320:], data[:])
	default:
		p.Header[4] = 0x81
		p.Body = make([]byte, map[uint16]int{4: 584, 5: 648}[version])
		copy(p.Body, []byte{5, byte(version - 4), 5})
		p.Body[123], p.Body[136], p.Body[328] = 1<<4, 0xd1, 0xa0
		copy(p.Body[520:], data[:])
	}
	p.QE[48], p.QE[258] = 0x15, 8
	p.QE[256] = map[bool]byte{true: 1, false: 2}[version == 3]
	copy(p.QE[128:], qeSigner[:])
	if change != nil {
		change(p)
	}
	return m.assemble(p)
}

func (m *Intel) assemble(p *Parts) []byte {
	u16, u32 := binary.LittleEndian.AppendUint16, binary.LittleEndian.AppendUint32
	signed := slices.Clone(p.Header)
	if p.Version == 5 {
		signed = u32(u16(signed, p.BodyKind), uint32(len(p.Body)))
	}
	signed = append(signed, p.Body...)
	point, err := p.QuoteKey.PublicKey.Bytes()
	if err != nil {
		m.t.Fatal(err)
	}
	sum := sha256.Sum256(append(slices.Clone(point[1:]), p.Auth...))
	copy(p.QE[320:], sum[:])
	inner := append(slices.Clone(p.QE), m.sign(p.Tag, p.QE)...)
	inner = append(u16(inner, uint16(len(p.Auth))), p.Auth...)
	inner = append(u32(u16(inner, 5), uint32(len(p.Chain))), p.Chain...)
	if p.Version > 3 {
		inner = append(u32(u16(nil, 6), uint32(len(inner))), inner...)
	}
	inner = slices.Concat(m.sign(p.QuoteKey, signed), point[1:], inner)
	return append(u32(signed, uint32(len(inner))), inner...)
}

// Document makes what Intel signs: field names its part, which is written from doc.
func (m *Intel) Document(field string, doc map[string]any) []byte {
	body, err := json.Marshal(doc)
	if err != nil {
		m.t.Fatal(err)
	}
	return fmt.Appendf(nil, `{"%s":%s,"signature":"%x"}`, field, body, m.sign(m.TCB, body))
}

// Level is one version of TCB information, all of whose parts are of one number.
func Level(svn int, status string, advisories ...string) map[string]any {
	var parts []map[string]any
	for range 16 {
		parts = append(parts, map[string]any{"svn": svn})
	}
	tdx := slices.Clone(parts)
	for i := range tdx {
		if i != 0 && i != 2 {
			tdx[i] = map[string]any{"svn": 0}
		}
	}
	return map[string]any{"tcb": map[string]any{"sgxtcbcomponents": parts, "tdxtcbcomponents": tdx, "pcesvn": 11, "isvsvn": svn}, "tcbStatus": status, "advisoryIDs": advisories}
}

// TCBInfo is TCB information of SGX or TDX, from one time to another.
func TCBInfo(id string, from, until time.Time) map[string]any {
	module := map[string]any{"mrsigner": fmt.Sprintf("%096x", 0), "attributes": fmt.Sprintf("%016x", 0), "attributesMask": "FFFFFFFFFFFFFFFF"}
	one := map[string]any{"id": "TDX_01", "tcbLevels": []any{map[string]any{"tcb": map[string]any{"isvsvn": 4}, "tcbStatus": "UpToDate"}, map[string]any{"tcb": map[string]any{"isvsvn": 2}, "tcbStatus": "OutOfDate"}}}
	for k, v := range module {
		one[k] = v
	}
	return map[string]any{"id": id, "version": 3, "issueDate": from, "nextUpdate": until, "fmspc": "50806F000000", "pceId": "0000", "tcbType": 0, "tcbEvaluationDataNumber": 17,
		"tdxModule": module, "tdxModuleIdentities": []any{one}, "tcbLevels": []any{Level(5, "UpToDate"), Level(3, "OutOfDate", "INTEL-SA-00106")}}
}

// Identity is a quoting enclave's identity of SGX (QE) or TDX (TD_QE).
func Identity(id string, from, until time.Time) map[string]any {
	return map[string]any{"id": id, "version": 2, "issueDate": from, "nextUpdate": until, "tcbEvaluationDataNumber": 17, "miscselect": "00000000", "miscselectMask": "FFFFFFFF",
		"attributes": "11000000000000000000000000000000", "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000", "mrsigner": hex.EncodeToString(qeSigner[:]),
		"isvprodid": map[string]int{"QE": 1, "TD_QE": 2}[id], "tcbLevels": []any{Level(8, "UpToDate"), Level(6, "OutOfDate")}}
}
