// Package collect makes evidence on the machine that it runs on, from the
// kernel's devices: a TPM at /dev/tpmrm0. It decides nothing: what evidence is worth, the side that
// asked for it finds out.
package collect
