// Package snp verifies attestation reports of AMD SEV-SNP virtual machines: the
// report, the certificate of the key that signed it up to AMD's root, AMD's
// revocation list, and the firmware's versions. It reads bytes only: no device,
// no clock, no network. Package collect asks the kernel.
//
// Structures are those of "SEV Secure Nested Paging Firmware ABI Specification"
// (AMD 56860), and certificates those of "Versioned Chip Endorsement Key
// Certificate and KDS Interface Specification" (AMD 57230), by the names that they
// have there: tables and sections have other numbers in each revision.
//
// AMD's roots are built in, because a machine is genuine or it is not: there is
// one maker, with one key for each product. Nothing but tests can add one: the
// repository's own hold that no production code does.
package snp
