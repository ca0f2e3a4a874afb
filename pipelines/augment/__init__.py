"""Mirror, colour jitter, lighting and normalization: one meaning (`reference`), one fast path per kind of device."""
