"""What is known of images: inspect, history, in docker's words; and what changed between two of them. Reads; runs nothing."""
