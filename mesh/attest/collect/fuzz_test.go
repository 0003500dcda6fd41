package collect

import "testing"

// FuzzHost feeds junk to what reads a host's table of certificates and the
// firmware's answer.
func FuzzHost(f *testing.F) {
	f.Add(make([]byte, 64))
	f.Add([]byte("\x63\xda\x75\x8d\xe6\x64\x45\x64\xad\xc5\xf4\xb9\x3b\xe8\xac\xcd\x18\x00\x00\x00\x02\x00\x00\x00ab"))
	f.Add([]byte("\x63\xda\x75\x8d\xe6\x64\x45\x64\xad\xc5\xf4\xb9\x3b\xe8\xac\xcd\xff\xff\xff\xff\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for name, part := range certTable(b) {
			if len(part) == 0 || len(part) > len(b) {
				t.Errorf("%s has %d bytes of %d", name, len(part), len(b))
			}
		}
		if report, err := sevReport(b); err == nil && len(report)+32 > len(b) {
			t.Errorf("a report of %d bytes out of %d", len(report), len(b))
		}
	})
}
