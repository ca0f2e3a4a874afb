"""Models by name: the paper's ResNets (`resnet`), their initialization, and other people's models (`registry`)."""
