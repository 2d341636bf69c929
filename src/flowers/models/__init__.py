"""Networks (plain PyTorch, images (B,3,H,W) in, logits (B,K) out), their weights, and opening a trained one."""
