"""The experiments: points and policies of each study, and the studies with a procedure of their own."""
