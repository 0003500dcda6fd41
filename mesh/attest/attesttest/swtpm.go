// Package attesttest is what tests of attestation need: a software TPM that
// behaves as a chip does, a maker who signs for it, and a fake kernel. No
// production code may import it; a test of the repository holds that.
package attesttest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/perrin-mesh/perrin/mesh/attest/collect"
)

// Chip is a software TPM. It keeps its seeds over Reboot.
type Chip struct {
	t      testing.TB
	dir    string
	socket string
	proc   *exec.Cmd
}

// NewChip starts a software TPM, or skips the test where there is none. It has
// no certificate yet.
func NewChip(t testing.TB) *Chip {
	t.Helper()
	if _, err := exec.LookPath("swtpm"); err != nil {
		t.Skip("no swtpm on this machine")
	}
	dir, err := os.MkdirTemp("", "swtpm") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	c := &Chip{t: t, dir: dir, socket: filepath.Join(dir, "s")}
	c.start()
	t.Cleanup(func() {
		c.stop()
		_ = os.RemoveAll(dir)
	})
	return c
}

func (c *Chip) start() {
	c.t.Helper()
	_ = os.Remove(c.socket)
	c.proc = exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+c.dir, "--server", "type=unixio,path="+c.socket,
		"--flags", "not-need-init,startup-clear", "--seccomp", "action=none")
	if err := c.proc.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.await(func() bool {
		conn, err := c.open()
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
}

// await waits for the software TPM.
func (c *Chip) await(there func() bool) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		if there() {
			return
		}
		wait, done := context.WithTimeout(ctx, 10*time.Millisecond)
		<-wait.Done()
		done()
	}
	c.t.Fatal("the software TPM does not answer")
}

func (c *Chip) stop() {
	_ = c.proc.Process.Kill()
	_ = c.proc.Wait()
}

// Plug takes the chip from the test and offers it to QEMU, at the socket whose
// path it returns; the other path is free for another socket. Firmware starts the
// chip. Reboot takes it back.
func (c *Chip) Plug() (socket, free string) {
	c.t.Helper()
	c.stop()
	socket = filepath.Join(c.dir, "q")
	_ = os.Remove(socket)
	c.proc = exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+c.dir, "--ctrl", "type=unixio,path="+socket, "--seccomp", "action=none")
	if err := c.proc.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.await(func() bool {
		_, err := os.Stat(socket)
		return err == nil
	})
	return socket, filepath.Join(c.dir, "free")
}

// Reboot cuts the power and starts again.
func (c *Chip) Reboot() {
	c.stop()
	c.start()
}

func (c *Chip) open() (io.ReadWriteCloser, error) { return net.Dial("unix", c.socket) }

// Files is a machine that has the chip, and below root what the kernel says.
func (c *Chip) Files(root string) collect.Files { return collect.Files{Root: root, TPM: c.open} }

// Do runs commands on the chip.
func (c *Chip) Do(do func(chip transport.TPM)) {
	c.t.Helper()
	conn, err := c.open()
	if err != nil {
		c.t.Fatal(err)
	}
	chip := transport.FromReadWriteCloser(conn)
	defer chip.Close()
	do(chip)
}

// Extend extends a register by the digest.
func (c *Chip) Extend(pcr uint32, digest []byte) {
	c.Do(func(chip transport.TPM) {
		_, err := tpm2.PCRExtend{
			PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(pcr), Auth: tpm2.PasswordAuth(nil)},
			Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: digest}}},
		}.Execute(chip)
		if err != nil {
			c.t.Fatal(err)
		}
	})
}

// Maker signs certificates of endorsement keys, as a maker of chips does.
type Maker struct {
	t    testing.TB
	Root *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewMaker makes one whose root is valid from yesterday on for ten years.
func NewMaker(t testing.TB, name string) *Maker {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	m := &Maker{t: t, key: key}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().AddDate(10, 0, 0),
		SubjectKeyId: []byte(name),
	}
	m.Root = m.sign(template, template, &key.PublicKey)
	return m
}

func (m *Maker) sign(template, parent *x509.Certificate, public any) *x509.Certificate {
	m.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, m.key)
	if err != nil {
		m.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		m.t.Fatal(err)
	}
	return cert
}

// Revoke makes a revocation list that names serials, current for a day.
func (m *Maker) Revoke(serials ...*big.Int) *x509.RevocationList {
	m.t.Helper()
	template := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(24 * time.Hour)}
	for _, s := range serials {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: s, RevocationTime: time.Now().Add(-time.Hour)})
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, m.Root, m.key)
	if err != nil {
		m.t.Fatal(err)
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		m.t.Fatal(err)
	}
	return list
}

// Endorse writes a certificate of the chip's endorsement key into it, valid from
// yesterday until the time given.
func (m *Maker) Endorse(c *Chip, until time.Time) *x509.Certificate {
	m.t.Helper()
	var cert *x509.Certificate
	c.Do(func(chip transport.TPM) {
		made, err := tpm2.CreatePrimary{
			PrimaryHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHEndorsement, Auth: tpm2.PasswordAuth(nil)}, InPublic: tpm2.New2B(tpm2.ECCEKTemplate),
		}.Execute(chip)
		if err != nil {
			m.t.Fatal(err)
		}
		defer tpm2.FlushContext{FlushHandle: made.ObjectHandle}.Execute(chip) //nolint:errcheck // the chip ends with the test
		public, err := made.OutPublic.Contents()
		if err != nil {
			m.t.Fatal(err)
		}
		key, err := tpm2.Pub(*public)
		if err != nil {
			m.t.Fatal(err)
		}
		name, err := asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: []byte{0x30, 0x00}}})
		if err != nil {
			m.t.Fatal(err)
		}
		cert = m.sign(&x509.Certificate{
			SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: until,
			KeyUsage: x509.KeyUsageKeyAgreement, UnknownExtKeyUsage: []asn1.ObjectIdentifier{{2, 23, 133, 8, 1}},
			ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Critical: true, Value: name}},
		}, m.Root, key)
		store(m.t, chip, cert.Raw)
	})
	return cert
}

const certIndex = 0x01c0000a // of an endorsement key on P-256

func store(t testing.TB, chip transport.TPM, data []byte) {
	t.Helper()
	owner := tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}
	_, err := tpm2.NVDefineSpace{AuthHandle: owner, PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
		NVIndex: certIndex, NameAlg: tpm2.TPMAlgSHA256, DataSize: uint16(len(data)),
		Attributes: tpm2.TPMANV{OwnerWrite: true, OwnerRead: true, AuthRead: true, AuthWrite: true, NoDA: true, NT: tpm2.TPMNTOrdinary},
	})}.Execute(chip)
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(data); at += 512 {
		about, err := tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(certIndex)}.Execute(chip) // the name changes with the first write
		if err != nil {
			t.Fatal(err)
		}
		_, err = tpm2.NVWrite{
			AuthHandle: owner, NVIndex: tpm2.NamedHandle{Handle: certIndex, Name: about.NVName},
			Data: tpm2.TPM2BMaxNVBuffer{Buffer: data[at:min(at+512, len(data))]}, Offset: uint16(at),
		}.Execute(chip)
		if err != nil {
			t.Fatal(err)
		}
	}
}
