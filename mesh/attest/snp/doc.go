// Package snp verifies attestation reports of AMD SEV-SNP virtual machines: the
// report, the certificate of the key that signed it up to AMD's root, AMD's
// revocation list, and the firmware's versions. It reads bytes only: no device,
// no clock, no network. Package collect asks the kernel.
//
// Structures are those of "SEV Secure Nested Paging Firmware ABI Specification"
// (AMD 56860, revision 1.58), and certificates those of "Versioned Chip
// Endorsement Key Certificate and KDS Interface Specification" (AMD 57230,
// revision 0.52).
//
// AMD's roots are built in, because a machine is genuine or it is not: there is
// one maker, with one key for each product. Nothing outside of this package's
// own tests can add one.
package snp
