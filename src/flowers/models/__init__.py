"""Networks: plain ``torch.nn.Module``, images (B,3,H,W) in, logits (B,K) out."""
