"""What is known of images, said in docker's words: inspect, history. Reads records; runs nothing."""
