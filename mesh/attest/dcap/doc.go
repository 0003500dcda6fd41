// Package dcap verifies quotes of Intel machines: of SGX enclaves (version 3) and
// of TDX virtual machines (versions 4 and 5), which share the enclave that signs,
// the chain of certificates and Intel's information on firmware. It reads bytes
// only: no device, no clock, no network. Package collect asks the kernel.
//
// # Path
//
// Intel's root signs a CA, which signs the key of a machine (PCK) at a version of
// its firmware. That key signed the report of the quoting enclave (QE), whose data
// names the key that signed the quote. What the firmware's version is worth says
// TCB information, and whether the enclave is Intel's the QE's identity, both
// signed by Intel with a date. Each certificate is held against its issuer's list.
//
// Structures are those of Intel's "SGX ECDSA Quote Library Reference",
// "TDX Quote Generation Library and Quote Verification Library", and of the "PCS
// API" (version 4).
//
// Intel's root is built in. Nothing but tests can add one: the repository's own
// hold that no production code does.
package dcap
