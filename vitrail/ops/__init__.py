"""Pure tensor functions. Shapes: B batch, C channels, H W image size, h w token grid, N = h·w tokens, D width."""
